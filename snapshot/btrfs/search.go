package btrfs

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SearchKey says which items a search hands out: those between (MinObjectID, MinType, MinOffset) and (MaxObjectID,
// MaxType, MaxOffset) in the order of keys, whose type lies between MinType and MaxType, and which lie in a leaf that was
// written in a transaction between MinTransid and MaxTransid. The offsets bound only the first and the last key; a leaf
// that was written again has old items too.
type SearchKey struct {
	Tree                     uint64 // number of the tree; 0: that of the subvolume the descriptor is in
	MinObjectID, MaxObjectID uint64
	MinType, MaxType         uint32
	MinOffset, MaxOffset     uint64
	MinTransid, MaxTransid   uint64
}

// All is a search key for everything of one type in the subvolume's own tree that is newer than the transaction bound.
func All(kind uint32, bound uint64) SearchKey {
	return SearchKey{
		MaxObjectID: math.MaxUint64, MinType: kind, MaxType: kind, MaxOffset: math.MaxUint64,
		MinTransid: bound + 1, MaxTransid: math.MaxUint64,
	}
}

// Of is a search key for all items of one inode whose type lies between the two.
func Of(inode uint64, minType, maxType uint32) SearchKey {
	return SearchKey{
		MinObjectID: inode, MaxObjectID: inode, MinType: minType, MaxType: maxType,
		MaxOffset: math.MaxUint64, MaxTransid: math.MaxUint64,
	}
}

// Item is one item of a tree.
type Item struct {
	ObjectID uint64
	Type     uint32
	Offset   uint64
	Transid  uint64 // of the leaf that it lies in
	Data     []byte // valid only until the callback returns
}

// searchHead is struct btrfs_ioctl_search_key and the buffer size behind it: struct btrfs_ioctl_search_args_v2 without
// its buffer.
type searchHead struct {
	Tree                     uint64
	MinObjectID, MaxObjectID uint64
	MinOffset, MaxOffset     uint64
	MinTransid, MaxTransid   uint64
	MinType, MaxType         uint32
	Items                    uint32
	_                        uint32
	_                        [4]uint64
	BufSize                  uint64
}

const (
	searchHeadSize = int(unsafe.Sizeof(searchHead{}))
	itemHeadSize   = 32 // struct btrfs_ioctl_search_header: u64 transid, objectid, offset; u32 type, len
	leastBuffer    = 64 << 10
	// largestBuffer is beyond any item: a tree block has at most 64 KiB.
	largestBuffer = 1 << 20
)

// Search calls yield for every item that key wants, in the order of keys, in as many calls of TREE_SEARCH_V2 as it takes.
// fd is open on any file of the filesystem. buf is working memory; one shorter than 64 KiB is replaced by one of that
// size. yield must not search with the same buf. An error of yield ends the search and is returned as it is. It needs root.
func Search(fd int, key SearchKey, buf []byte, yield func(Item) error) error {
	if len(buf) < leastBuffer {
		buf = make([]byte, leastBuffer)
	}
	buf = aligned(buf)
	next := key
	for {
		items, err := searchOnce(fd, next, buf)
		if err == unix.EOVERFLOW && len(buf) < largestBuffer { // one item does not fit
			buf = aligned(make([]byte, 2*len(buf)+8))
			continue
		}
		if err != nil {
			return explain("search in tree of", fmt.Sprintf("descriptor %d", fd), err)
		}
		if items == 0 {
			return nil
		}
		last, err := eachItem(buf[searchHeadSize:], items, key, yield)
		if err != nil {
			return err
		}
		if !next.after(last) {
			return nil
		}
	}
}

// aligned cuts buf so that it begins as a searchHead must.
func aligned(buf []byte) []byte {
	off := -uintptr(unsafe.Pointer(unsafe.SliceData(buf))) & 7
	return buf[off:]
}

// searchOnce fills buf behind its head and gives the number of items.
func searchOnce(fd int, key SearchKey, buf []byte) (uint32, error) {
	head := (*searchHead)(unsafe.Pointer(unsafe.SliceData(buf)))
	*head = searchHead{
		Tree:        key.Tree,
		MinObjectID: key.MinObjectID, MaxObjectID: key.MaxObjectID,
		MinOffset: key.MinOffset, MaxOffset: key.MaxOffset,
		MinTransid: key.MinTransid, MaxTransid: key.MaxTransid,
		MinType: key.MinType, MaxType: key.MaxType,
		Items:   math.MaxUint32,
		BufSize: uint64(len(buf) - searchHeadSize),
	}
	err := ioctl(fd, iocTreeSearchV2, unsafe.Pointer(head))
	return head.Items, err
}

// eachItem goes through what one call returned and gives the last item.
func eachItem(b []byte, items uint32, key SearchKey, yield func(Item) error) (last Item, err error) {
	for range items {
		if len(b) < itemHeadSize {
			return last, fmt.Errorf("tree search: head of an item is cut after %d bytes", len(b))
		}
		size := uint64(binary.NativeEndian.Uint32(b[28:]))
		last = Item{
			Transid:  binary.NativeEndian.Uint64(b),
			ObjectID: binary.NativeEndian.Uint64(b[8:]),
			Offset:   binary.NativeEndian.Uint64(b[16:]),
			Type:     binary.NativeEndian.Uint32(b[24:]),
		}
		if b = b[itemHeadSize:]; uint64(len(b)) < size {
			return last, fmt.Errorf("tree search: item of %d bytes is cut after %d", size, len(b))
		}
		last.Data, b = b[:size:size], b[size:]
		if last.Type < key.MinType || last.Type > key.MaxType {
			continue
		}
		if err := yield(last); err != nil {
			return last, err
		}
	}
	return last, nil
}

// after makes k begin behind the item given; false if no key can follow.
func (k *SearchKey) after(it Item) bool {
	k.MinObjectID, k.MinType, k.MinOffset = it.ObjectID, it.Type, it.Offset+1
	if k.MinOffset == 0 {
		if k.MinType++; k.MinType > math.MaxUint8 {
			k.MinType = 0
			k.MinObjectID++
		}
	}
	return k.MinObjectID != 0 || k.MinType != 0 || k.MinOffset != 0
}
