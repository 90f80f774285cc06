// Command snapdiff keeps an exact mirror of a filesystem from the changes between its native snapshots.
package main

import "os"

func main() { os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr)) }
