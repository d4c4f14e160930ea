package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The scenarios of `make rolling` are in no catalogue that another test reads.
func TestRollingScenariosAreRead(t *testing.T) {
	files, err := filepath.Glob("../rolling/*.yaml")
	require.NoError(t, err)
	all, err := load(t.Context(), files)
	require.NoError(t, err)
	assert.Len(t, all, 4, "one for each role")
}
