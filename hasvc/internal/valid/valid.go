// Package valid says what may be stored under which name, for every role that takes names from outside.
package valid

import "unicode/utf8"

// Bounds, in bytes.
const (
	MaxName = 128 // of ids, keys and SKUs
	MaxKey  = 256 // of idempotency keys
)

// Name says whether s may be an id, a SKU or a register's key.
func Name(s string) bool {
	if s == "" || len(s) > MaxName {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}

// Key says whether s may be an idempotency key.
func Key(s string) bool {
	if s == "" || len(s) > MaxKey || !utf8.ValidString(s) {
		return false
	}
	for _, c := range s {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}
