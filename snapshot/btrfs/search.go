package btrfs

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"unsafe"
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
	itemHeadSize   = 32       // struct btrfs_ioctl_search_header: u64 transid, objectid, offset; u32 type, len
	largestItem    = 64 << 10 // a tree block has at most 64 KiB
	leastBuffer    = 80 << 10 // has room for any item, and after a small answer still so much that it is known to be the last
)

// searchBuffers are for searches to which none is given.
var searchBuffers = sync.Pool{New: func() any { b := make([]byte, leastBuffer+8); return &b }}

// Search calls yield for every item that key wants, in the order of keys, in as many calls of TREE_SEARCH_V2 as it takes.
// fd is open on any file of the filesystem. buf is working memory; one that is too short is replaced. yield must not
// search with the same buf. An error of yield ends the search and is returned as it is. It needs root.
func Search(fd int, key SearchKey, buf []byte, yield func(Item) error) error {
	if buf == nil {
		some := searchBuffers.Get().(*[]byte)
		defer searchBuffers.Put(some)
		buf = *some
	}
	c := NewCursor(fd, buf)
	c.Seek(key, 0)
	for {
		it, ok, err := c.Next()
		if err != nil || !ok {
			return err
		}
		if err := yield(it); err != nil {
			return err
		}
	}
}

// Cursor hands out the items of a search one by one. It is for one goroutine.
type Cursor struct {
	// Most is how many items one call of the kernel copies at most; 0: as many as the buffer holds.
	Most uint32

	fd               int
	buf              []byte
	minType, maxType uint32
	want             SearchKey // what the last call asked for and, once it is all taken, what is still to be asked for
	limit            uint32    // items that the next call asks for
	short            bool      // the last call gave fewer items than asked for
	over             bool      // nothing is left to be asked for
	rest             []byte    // what the last call left of the buffer behind the items taken
	items            uint32    // in rest
}

// NewCursor makes a cursor that has nothing to give before Seek. fd and buf are as for Search.
func NewCursor(fd int, buf []byte) *Cursor {
	if len(buf) < leastBuffer {
		buf = make([]byte, leastBuffer+8)
	}
	return &Cursor{fd: fd, buf: aligned(buf), over: true}
}

// Use makes the cursor one of another filesystem or subvolume, with nothing to give before Seek.
func (c *Cursor) Use(fd int) {
	c.fd, c.over, c.rest, c.items = fd, true, nil, 0
}

// Seek begins a search. few, if not 0, says that perhaps only so many items will be taken: no more are copied at first, and
// more with each call.
func (c *Cursor) Seek(key SearchKey, few int) {
	c.minType, c.maxType, c.want = key.MinType, key.MaxType, key
	c.over, c.rest, c.items = false, nil, 0
	c.ask(few)
}

// ask sets how many items the next call asks for.
func (c *Cursor) ask(few int) {
	c.limit = math.MaxUint32
	if few > 0 {
		c.limit = uint32(few)
	}
	if c.Most > 0 {
		c.limit = min(c.limit, c.Most)
	}
}

// Next gives the next item and goes on; false: there is none any more. The item's data is valid until the next call of Next or
// Peek.
func (c *Cursor) Next() (it Item, ok bool, err error) {
	if it, ok, err = c.Peek(); ok {
		c.drop(&it)
	}
	return it, ok, err
}

// Peek gives the item that Next will give.
func (c *Cursor) Peek() (it Item, ok bool, err error) {
	for {
		for c.items > 0 {
			if it, err = cutItem(c.rest); err != nil {
				return Item{}, false, err
			}
			if c.minType <= it.Type && it.Type <= c.maxType {
				return it, true, nil
			}
			c.drop(&it)
		}
		if c.over {
			return Item{}, false, nil
		}
		if err := c.fill(); err != nil {
			return Item{}, false, err
		}
	}
}

// SkipTo leaves out all items before the first one of this type or a higher one of the inode. What the kernel has not copied yet it
// never will; few is as for Seek.
func (c *Cursor) SkipTo(inode uint64, kind uint32, few int) error {
	before := func(objectID uint64, typ uint32) bool { return objectID < inode || objectID == inode && typ < kind }
	for c.items > 0 {
		it, err := cutItem(c.rest)
		if err != nil {
			return err
		}
		if !before(it.ObjectID, it.Type) {
			return nil
		}
		c.drop(&it)
	}
	if before(c.want.MinObjectID, c.want.MinType) {
		c.want.MinObjectID, c.want.MinType, c.want.MinOffset = inode, kind, 0
		c.over = c.over || inode > c.want.MaxObjectID
		c.ask(few)
	}
	return nil
}

// drop goes on behind the item that Peek gave. Behind the last one it sees whether there can be more: the kernel says nothing
// of the end of a search, but it stops early only where the number of items or the buffer is full.
func (c *Cursor) drop(it *Item) {
	c.items--
	c.rest = c.rest[itemHeadSize+len(it.Data):]
	if c.items == 0 {
		c.over = c.short && len(c.rest) > itemHeadSize+largestItem || !c.want.after(*it)
	}
}

// fill asks the kernel for more.
func (c *Cursor) fill() error {
	items, err := searchOnce(c.fd, c.want, c.limit, c.buf)
	if err != nil {
		return explain("search in tree of", fmt.Sprintf("descriptor %d", c.fd), err)
	}
	c.rest, c.items = c.buf[searchHeadSize:], items
	c.short, c.over = items < c.limit, items == 0
	if c.limit < math.MaxUint32/2 {
		c.ask(2 * int(c.limit))
	}
	return nil
}

// aligned cuts buf so that it begins as a searchHead must.
func aligned(buf []byte) []byte {
	off := -uintptr(unsafe.Pointer(unsafe.SliceData(buf))) & 7
	return buf[off:]
}

// searchOnce fills buf behind its head and gives the number of items.
func searchOnce(fd int, key SearchKey, limit uint32, buf []byte) (uint32, error) {
	head := (*searchHead)(unsafe.Pointer(unsafe.SliceData(buf)))
	*head = searchHead{
		Tree:        key.Tree,
		MinObjectID: key.MinObjectID, MaxObjectID: key.MaxObjectID,
		MinOffset: key.MinOffset, MaxOffset: key.MaxOffset,
		MinTransid: key.MinTransid, MaxTransid: key.MaxTransid,
		MinType: key.MinType, MaxType: key.MaxType,
		Items:   limit,
		BufSize: uint64(len(buf) - searchHeadSize),
	}
	err := ioctl(fd, iocTreeSearchV2, unsafe.Pointer(head))
	return head.Items, err
}

// cutItem reads the first item of what a call returned.
func cutItem(b []byte) (Item, error) {
	if len(b) < itemHeadSize {
		return Item{}, fmt.Errorf("tree search: head of an item is cut after %d bytes", len(b))
	}
	size := uint64(binary.NativeEndian.Uint32(b[28:]))
	it := Item{
		Transid:  binary.NativeEndian.Uint64(b),
		ObjectID: binary.NativeEndian.Uint64(b[8:]),
		Offset:   binary.NativeEndian.Uint64(b[16:]),
		Type:     binary.NativeEndian.Uint32(b[24:]),
	}
	if b = b[itemHeadSize:]; uint64(len(b)) < size {
		return Item{}, fmt.Errorf("tree search: item of %d bytes is cut after %d", size, len(b))
	}
	it.Data = b[:size:size]
	return it, nil
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
