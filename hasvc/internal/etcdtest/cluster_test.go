package etcdtest

import (
	"slices"
	"testing"
)

// One port twice is a member that cannot start. Chosen one by one, five hundred hold a pair in 99 of 100 cases.
func TestFreeAddrsDiffer(t *testing.T) {
	addrs := freeAddrs(t, "127.77.77.77", 500)
	slices.Sort(addrs)
	if n := len(slices.Compact(addrs)); n != 500 {
		t.Errorf("%d different ones", n)
	}
}
