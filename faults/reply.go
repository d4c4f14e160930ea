package faults

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Chosen says which of the requests that match are struck: a share of them, drawn for each, the first so many or each so
// manyth. Of these at most one is given; left out, all are.
type Chosen struct {
	Share string `json:"share,omitempty"` // "30%"
	First int    `json:"first,omitempty"` // on all links together
	Every int    `json:"every,omitempty"` // each so manyth: 3 strikes one of three
}

func (c Chosen) validate() error {
	var errs []error
	given := 0
	for _, set := range []bool{c.Share != "", c.First != 0, c.Every != 0} {
		if set {
			given++
		}
	}
	if given > 1 {
		errs = append(errs, errors.New("give one of share, first and every"))
	}
	if _, err := c.share(); err != nil {
		errs = append(errs, err)
	}
	if c.First < 0 {
		errs = append(errs, fmt.Errorf("first %d: at least 1", c.First))
	}
	if c.Every < 0 {
		errs = append(errs, fmt.Errorf("every %d: at least 1", c.Every))
	}
	return errors.Join(errs...)
}

// share is in (0,1], or 0 where first or every say it.
func (c Chosen) share() (float64, error) {
	switch {
	case c.Share == "" && (c.First != 0 || c.Every != 0):
		return 0, nil
	case c.Share == "":
		return 1, nil
	}
	p, ok := strings.CutSuffix(strings.TrimSpace(c.Share), "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(p), 64)
	if !ok || err != nil || !(v > 0 && v <= 100) {
		return 0, fmt.Errorf("share %q: a share of requests, more than 0%% and at most 100%%", c.Share)
	}
	return v / 100, nil
}

// expression checks a regular expression.
func expression(key, text string) error {
	if _, err := regexp.Compile(text); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// ReplyLinks lets the plan know, before the start, on which links requests may be answered in the server's place: what
// crosses them is read from their first connection on.
type ReplyLinks interface {
	ReplyLinks() Ends
}

// inject has requests answered. What it answered is the proof, and comes at the end: which requests come is not known
// before, and a probe would be one of them.
func (c Chosen) inject(ctx context.Context, env *Env, ends Ends, r cluster.Reply, what string) (*Effect, error) {
	links, err := ends.links(ctx, env)
	if err != nil {
		return nil, err
	}
	if r.Share, err = c.share(); err != nil {
		return nil, err
	}
	r.First, r.Every, r.Seed = c.First, c.Every, env.Seed
	f, err := inflict(ctx, env, links, cluster.Rule{Reply: &r})
	if err != nil {
		return nil, err
	}
	return &Effect{
		Links: links,
		Prove: func(context.Context) (string, error) {
			return fmt.Sprintf("%s is set on %d links; the requests that it answers are its proof", what, len(links)), nil
		},
		Bitten: func(ctx context.Context) (string, error) { return f.replied(ctx, what) },
		Healed: healed(env, f.lifted),
	}, nil
}

// replied says what was answered.
func (f *rule) replied(ctx context.Context, what string) (string, error) {
	cs, err := f.env.Cluster.Counters(ctx, f.id)
	if err != nil {
		return "", err
	}
	var given, asked uint64
	busy := 0
	for _, c := range cs {
		given, asked = given+c.Packets, asked+c.Bytes
		if c.Packets > 0 {
			busy++
		}
	}
	switch {
	case asked == 0:
		return "", NotYet("no request that matches crossed %s while the fault held: it had nothing to act on", describe(f.links))
	case given == 0:
		return "", NotYet("none of the %d requests on %s was to be answered", asked, describe(f.links))
	}
	return fmt.Sprintf("%d of %d requests were answered with %s, on %d of %d links", given, asked, what, busy, len(f.links)), nil
}
