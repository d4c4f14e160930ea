package main

import (
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/scenarios"
)

func TestPageIsCurrent(t *testing.T) {
	controls, err := catalogue(t.Context(), "../../scenarios")
	require.NoError(t, err)
	require.NotEmpty(t, controls)
	written, err := os.ReadFile("../../docs/features.md")
	require.NoError(t, err)
	assert.Equal(t, page(rows, controls), string(written), "out of date: run go generate ./ci/features")
}

// A defect that no row names would be missed by the page.
func TestEveryDefectHasItsRow(t *testing.T) {
	var named []string
	for _, r := range rows {
		named = append(named, r.defects...)
	}
	slices.Sort(named)
	known := slices.Clone(scenarios.Defects)
	slices.Sort(known)
	assert.Equal(t, known, named)
}

func TestADefectWithoutAControlIsSaid(t *testing.T) {
	got := page([]row{{1, "a", []string{"x", "y"}}, {2, "b", []string{"z"}}}, []control{
		{scenario: "s", defect: "x", service: "orders", mustFail: []string{"kept (no-lost-writes)"}},
		{scenario: "t", defect: "x"},
		{scenario: "t", defect: "z", mustFail: []string{"p (slo)", "q (slo)"}},
	})
	assert.Contains(t, got, "| 1 | a | `x` | s | orders | kept (no-lost-writes) |\n|  |  | `x` | t | all |  |\n|  |  | `y` | none: tests of hasvc only | | |\n"+
		"| 2 | b | `z` | t | all | p (slo), q (slo) |\n\nOne defect has no control.\n")
}
