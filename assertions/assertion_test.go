package assertions

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWhatAFindingSays(t *testing.T) {
	assert.Equal(t, "12 lost: it would be FAIL", Finding{Summary: "12 lost", Reason: "it would be FAIL"}.Said())
	assert.Equal(t, "12 lost", Finding{Summary: "12 lost"}.Said())
	assert.Equal(t, "no load", Finding{Reason: "no load"}.Said())
	assert.Equal(t, "late", Finding{Summary: "late", Reason: "late"}.Said())
}
