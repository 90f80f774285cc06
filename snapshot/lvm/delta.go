package lvm

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

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
