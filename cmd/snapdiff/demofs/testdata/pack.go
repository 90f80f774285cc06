// Pack writes the blocks of an image that are not all zeros to standard output, in the form that demofs unpacks.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"log"
	"os"
)

func main() {
	image, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	out, err := gzip.NewWriterLevel(os.Stdout, gzip.BestCompression)
	if err != nil {
		log.Fatal(err)
	}
	const blockSize = 4096
	block, zeros := make([]byte, blockSize), make([]byte, blockSize)
	for off := uint64(0); ; off += blockSize {
		_, err := io.ReadFull(image, block)
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		if bytes.Equal(block, zeros) {
			continue
		}
		if err := binary.Write(out, binary.LittleEndian, off); err != nil {
			log.Fatal(err)
		}
		if _, err := out.Write(block); err != nil {
			log.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		log.Fatal(err)
	}
}
