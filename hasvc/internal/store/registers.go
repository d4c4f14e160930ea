package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/v3"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

// Register is a value with the revision of the store at its last change.
type Register struct {
	Key      string
	Value    string
	Revision int64
}

// registerRecord is what etcd holds.
type registerRecord struct {
	Value string `json:"value"`
	// Writer is one write's mark: an attempt that got no answer finds out by it whether it had been applied.
	Writer string `json:"writer"`
}

// errRace: between reading the revision and writing somebody else wrote. Certainly not applied.
var errRace = errors.New("the register was written in between")

// GetRegister reads a register; serializable settles for what one member of the store knows.
func (s *Store) GetRegister(ctx context.Context, key string, serializable bool) (Register, error) {
	if r, ok := s.local.register(key); ok {
		return r, nil
	}
	var r Register
	err := s.read(ctx, serializable, func(ctx context.Context, opts ...clientv3.OpOption) error {
		resp, err := s.etcd.Get(ctx, registerPrefix+key, opts...)
		if err != nil {
			return err
		}
		if len(resp.Kvs) == 0 {
			return ErrNotFound
		}
		r, _, err = decodeRegister(key, resp.Kvs[0])
		return err
	})
	if err != nil {
		return Register{}, fmt.Errorf("reading register %q: %w", key, err)
	}
	s.local.keepRegister(r)
	return r, nil
}

// PutRegister writes a register: in any case when expect is nil, else only if its revision is *expect (0: if there is
// none). ErrConflict means that the comparison failed and nothing was written; ErrAway and ErrOverwritten leave that open.
func (s *Store) PutRegister(ctx context.Context, key, value string, expect *int64) (Register, error) {
	w := registerWrite{key: key, value: value, expect: expect, writer: newID()}
	var err error
	if expect != nil && *expect != 0 {
		err = s.try(led(ctx), func(ctx context.Context) error { return s.attemptRegister(ctx, &w) })
	} else {
		err = s.commit(ctx, func(ctx context.Context) error { return s.attemptRegister(ctx, &w) })
		if s.defects.Has(defect.AckEarly) {
			return Register{Key: key, Value: value, Revision: 1}, nil // w belongs to the write still under way
		}
	}
	if err != nil {
		return Register{}, fmt.Errorf("writing register %q: %w", key, err)
	}
	s.local.keepRegister(w.done)
	return w.done, nil
}

// registerWrite is one write across its attempts.
type registerWrite struct {
	key, value, writer string
	expect             *int64
	revision           int64 // what the next attempt compares with
	known              bool  // revision is set
	uncertain          bool  // an attempt got no answer
	done               Register
}

// attemptRegister writes on the condition that the register still has the revision seen before. All attempts without an answer
// compare with the same revision, so at most one of them is ever applied, however late: repeating is harmless.
func (s *Store) attemptRegister(ctx context.Context, w *registerWrite) error {
	for {
		err := s.compareAndPut(ctx, w)
		if !errors.Is(err, errRace) {
			return err
		}
	}
}

func (s *Store) compareAndPut(ctx context.Context, w *registerWrite) error {
	k := registerPrefix + w.key
	if w.expect != nil {
		w.revision, w.known = *w.expect, true
	}
	if !w.known {
		resp, err := s.etcd.Get(ctx, k, clientv3.WithKeysOnly())
		if err != nil {
			return err
		}
		if w.revision = 0; len(resp.Kvs) > 0 {
			w.revision = resp.Kvs[0].ModRevision
		}
		w.known = true
	}
	body, err := json.Marshal(registerRecord{Value: w.value, Writer: w.writer})
	if err != nil {
		return err
	}
	resp, err := s.etcd.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(k), "=", w.revision)).
		Then(clientv3.OpPut(k, string(body))).
		Else(clientv3.OpGet(k)).
		Commit()
	if err != nil {
		w.uncertain = true
		return err
	}
	if resp.Succeeded {
		w.done = Register{Key: w.key, Value: w.value, Revision: resp.Header.Revision}
		return nil
	}
	var now int64
	if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		r, writer, err := decodeRegister(w.key, kvs[0])
		if err != nil {
			return err
		}
		if writer == w.writer { // an attempt that got no answer had been applied
			w.done = r
			return nil
		}
		now = r.Revision
	}
	switch {
	case w.uncertain:
		return ErrOverwritten
	case w.expect != nil:
		return ErrConflict
	}
	w.revision = now
	return errRace
}

func decodeRegister(key string, kv *mvccpb.KeyValue) (Register, string, error) {
	var rec registerRecord
	if err := json.Unmarshal(kv.Value, &rec); err != nil {
		return Register{}, "", fmt.Errorf("the store's record of register %q: %w", key, err)
	}
	return Register{Key: key, Value: rec.Value, Revision: kv.ModRevision}, rec.Writer, nil
}
