// Command hello prints a word.
package main

import (
	"fmt"

	"example.org/hello/word"
)

func main() { fmt.Println(word.Word) }
