package sandbox

import "context"

type Stage struct {
	Name   string
	Err    error
	Remedy string
}

func Doctor(ctx context.Context) []Stage { return nil }
