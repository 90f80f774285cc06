//go:build ignore

// Writes all items of the subvolume that a directory lies in as the tree search gives them: heads and data, one after another.
// capture.sh runs it.
package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"

	"snapdiff/snapshot/btrfs"
)

func main() {
	dir, err := os.Open(os.Args[1])
	if err == nil {
		everything := btrfs.SearchKey{MaxObjectID: math.MaxUint64, MaxType: math.MaxUint8, MaxOffset: math.MaxUint64, MaxTransid: math.MaxUint64}
		err = btrfs.Search(int(dir.Fd()), everything, nil, func(it btrfs.Item) error {
			var head []byte
			for _, v := range []uint64{it.Transid, it.ObjectID, it.Offset} {
				head = binary.NativeEndian.AppendUint64(head, v)
			}
			head = binary.NativeEndian.AppendUint32(head, it.Type)
			head = binary.NativeEndian.AppendUint32(head, uint32(len(it.Data)))
			_, err := os.Stdout.Write(append(head, it.Data...))
			return err
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
