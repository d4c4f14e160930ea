// Package word has a word.
package word

// Word is it.
const Word = "hello"
