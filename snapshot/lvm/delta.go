package lvm

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// checkDelta makes sure that thin_delta is there and can be trusted.
func checkDelta(ctx context.Context) error {
	out, err := ask(ctx, "thin_delta", "-V")
	var failed *CommandError
	if err != nil && !errors.As(err, &failed) {
		return err
	}
	if version := wrongDelta(string(out)); version != "" {
		return fmt.Errorf("thin_delta %s %w: update %s to 1.0.6 or newer", version, errWrongDelta, packages["thin_delta"])
	}
	return nil
}

// errWrongDelta says that what thin_delta tells is not all that changed.
var errWrongDelta = errors.New("takes blocks that changed for the same")

// wrongDelta gives the version that thin_delta says it has, if it is one that joins runs of blocks by their place in the volume alone, and so says "same" of what lies
// elsewhere in the pool: 1.0.0 to 1.0.5, the first that were written in Rust (CHANGES of thin-provisioning-tools, v1.0.6: "Fix range mappings preprocessing in
// thin_delta"). "" for all others.
func wrongDelta(said string) string {
	found := deltaVersion.FindStringSubmatch(said)
	if found == nil || found[1] != "1.0" {
		return ""
	}
	if patch, err := strconv.Atoi(strings.TrimPrefix(found[2], ".")); err == nil && patch >= 6 {
		return ""
	}
	return found[0]
}

var deltaVersion = regexp.MustCompile(`\b(\d+\.\d+)(\.\d+)?`)

// parseDelta reads what thin_delta prints and gives the ranges that are not mapped to the same block in both volumes. The
// layout has changed between versions, so it goes by the elements:
//
//	<superblock data_block_size="SECTORS" ...>
//	  <diff left="ID" right="ID">
//	    <same|different|left_only|right_only begin="BLOCK" length="BLOCKS"/>
//
// left_only is a range that was discarded, right_only one that was written first. With --verbose the ranges stand in
// elements of their own inside. Whatever is not said to be the same counts as different; ranges that are not mentioned are
// mapped in neither.
func parseDelta(r io.Reader) ([]Block, error) {
	p := deltaParser{dec: xml.NewDecoder(r)}
	for {
		token, err := p.dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading the output of thin_delta: %w", err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			if err := p.start(t); err != nil {
				return nil, fmt.Errorf("reading the output of thin_delta: %w", err)
			}
		case xml.EndElement:
			p.end(t.Name.Local)
		}
	}
	if !p.whole {
		return nil, errors.New("reading the output of thin_delta: it holds no difference of two volumes")
	}
	return p.blocks, nil
}

type deltaParser struct {
	dec    *xml.Decoder
	unit   int64 // bytes of a block
	inDiff bool
	same   bool // inside of <same>
	whole  bool // a whole <diff> was read
	blocks []Block
}

func (p *deltaParser) start(t xml.StartElement) (err error) {
	switch name := t.Name.Local; name {
	case "superblock":
		sectors, err := number(t, "data_block_size")
		if err == nil && (sectors <= 0 || sectors > 1<<31) {
			err = fmt.Errorf("blocks of %d sectors", sectors)
		}
		p.unit = sectors * sector
		return err
	case "diff":
		p.inDiff = true
		if p.unit == 0 {
			return errors.New("a difference without a size of blocks")
		}
	case "same":
		p.same = true
	case "different", "left_only", "right_only", "range":
		if !p.inDiff || p.same {
			return nil
		}
		return p.add(t, name != "range")
	default:
		return fmt.Errorf("unknown element <%s>", name)
	}
	return nil
}

// add notes a range. An element that only holds ranges has none of its own.
func (p *deltaParser) add(t xml.StartElement, mayHold bool) error {
	if mayHold && !has(t, "begin") {
		return nil
	}
	begin, err := number(t, "begin")
	if err != nil {
		return err
	}
	length, err := number(t, "length")
	if err != nil {
		return err
	}
	most := math.MaxInt64 / p.unit / 2
	if begin < 0 || length < 0 || begin > most || length > most {
		return fmt.Errorf("<%s begin=%d length=%d> is out of bounds", t.Name.Local, begin, length)
	}
	p.blocks = append(p.blocks, Block{begin * p.unit, length * p.unit})
	return nil
}

func (p *deltaParser) end(name string) {
	switch name {
	case "same":
		p.same = false
	case "diff":
		p.inDiff, p.whole = false, true
	}
}

func has(t xml.StartElement, attr string) bool {
	for _, a := range t.Attr {
		if a.Name.Local == attr {
			return true
		}
	}
	return false
}

func number(t xml.StartElement, attr string) (int64, error) {
	for _, a := range t.Attr {
		if a.Name.Local == attr {
			return strconv.ParseInt(a.Value, 10, 64)
		}
	}
	return 0, fmt.Errorf("<%s> has no %s", t.Name.Local, attr)
}
