package store

import "errors"

// What an operation can end with, matched with errors.Is.
var (
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("the register has another revision")                           // certainly not applied
	ErrKeyReused   = errors.New("the idempotency key was used with another body")              // certainly not applied
	ErrShort       = errors.New("there is not enough in stock")                                // certainly not applied
	ErrAway        = errors.New("the store is away")                                           // a write may or may not have been applied
	ErrOverwritten = errors.New("the store was away, and the register has been written since") // likewise
)
