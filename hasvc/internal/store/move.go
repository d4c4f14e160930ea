package store

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/client/v3"
)

// Move changes the stock of a SKU. What becomes of an ID is decided once, however often it is asked for: it is made once, or refused for
// good. Of two replicas that ask, one would else have told of a refusal and the other, once the stock is filled up, have taken of it.
type Move struct {
	ID    string
	SKU   string
	Delta int64
}

// moveRecord is what etcd holds of a move that was made or refused.
type moveRecord struct {
	SKU   string `json:"sku"`
	Delta int64  `json:"delta"`
	Level int64  `json:"level"`           // after it and those made with it: one revision has one level
	Short bool   `json:"short,omitempty"` // there was not enough: nothing was changed
}

func decodeMove(id string, record []byte) (moveRecord, error) {
	var rec moveRecord
	if err := json.Unmarshal(record, &rec); err != nil {
		return moveRecord{}, fmt.Errorf("the store's record of move %q: %w", id, err)
	}
	return rec, nil
}

// moveBatch is how many moves one transaction makes at most: etcd allows 128 operations.
const moveBatch = 100

// moves groups the moves of a SKU that wait at the same time into one transaction (group commit): all of them write the same
// key, so one by one they would go no faster than the store's round trip, and replicas would spend it on losing races.
type moves struct {
	mu      sync.Mutex
	waiting map[string][]*waitingMove // a SKU that is in it has a goroutine that makes its moves
	running sync.WaitGroup
}

type waitingMove struct {
	Move
	ctx   context.Context // for its deadline and its values
	done  chan struct{}
	stock Stock
	err   error
}

// MoveStock makes a move and returns the level after it and those made with it. ErrShort and ErrKeyReused mean that nothing was
// changed; ErrAway leaves it open, and asking again with the same ID is harmless.
func (s *Store) MoveStock(ctx context.Context, m Move) (Stock, error) {
	w := &waitingMove{Move: m, ctx: ctx, done: make(chan struct{})}
	begin := time.Now()
	s.enqueue(w)
	select {
	case <-w.done:
	case <-ctx.Done(): // the others in its batch go on, and so may this one
		err := fmt.Errorf("%w: %w", ErrAway, ctx.Err())
		if time.Since(begin) < s.attempt {
			err = hurried{fmt.Errorf("the time was over before the store answered: %w", ctx.Err())}
		}
		return Stock{}, fmt.Errorf("moving the stock of %q: %w", m.SKU, err)
	}
	if w.err != nil {
		return Stock{}, fmt.Errorf("moving the stock of %q: %w", m.SKU, w.err)
	}
	return w.stock, nil
}

func (s *Store) enqueue(w *waitingMove) {
	q := &s.moves
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting == nil {
		q.waiting = map[string][]*waitingMove{}
	}
	queue, running := q.waiting[w.SKU]
	q.waiting[w.SKU] = append(queue, w)
	if !running {
		q.running.Go(func() { s.makeMoves(w.SKU) })
	}
}

// makeMoves makes batch after batch until none waits.
func (s *Store) makeMoves(sku string) {
	for {
		batch := s.moves.take(sku)
		if batch == nil {
			return
		}
		ctx, cancel := together(batch)
		err := s.try(led(ctx), func(ctx context.Context) error { return s.moveTogether(ctx, sku, batch) })
		cancel()
		for _, w := range batch {
			if err != nil {
				w.err = err
			}
			close(w.done)
		}
	}
}

// take returns the moves that are next; with none left, the SKU is nobody's any more.
func (q *moves) take(sku string) []*waitingMove {
	q.mu.Lock()
	defer q.mu.Unlock()
	queue := q.waiting[sku]
	if len(queue) == 0 {
		delete(q.waiting, sku)
		return nil
	}
	n := min(len(queue), moveBatch)
	q.waiting[sku] = queue[n:]
	return queue[:n:n]
}

// together is the context of a batch: it lasts as long as the most patient of those who wait.
func together(batch []*waitingMove) (context.Context, context.CancelFunc) {
	ctx := context.WithoutCancel(batch[0].ctx)
	var last time.Time
	for _, w := range batch {
		d, ok := w.ctx.Deadline()
		if !ok {
			return ctx, func() {}
		}
		if d.After(last) {
			last = d
		}
	}
	return context.WithDeadline(ctx, last)
}

// moveTogether makes all moves of a batch that were not made or refused before. It can be repeated: the transaction requires that neither
// the stock nor any of the moves has been written since they were read.
func (s *Store) moveTogether(ctx context.Context, sku string, batch []*waitingMove) error {
	for {
		made, err := s.moveOnce(ctx, sku, batch)
		if err != nil || made {
			return err
		}
	}
}

func (s *Store) moveOnce(ctx context.Context, sku string, batch []*waitingMove) (made bool, err error) {
	reads := []clientv3.Op{clientv3.OpGet(stockPrefix + sku)}
	for _, w := range batch {
		reads = append(reads, clientv3.OpGet(movePrefix+w.ID))
	}
	resp, err := s.etcd.Txn(ctx).Then(reads...).Commit()
	if err != nil {
		return false, err
	}
	stock, err := decodeStock(sku, resp.Responses[0].GetResponseRange().Kvs)
	if err != nil {
		return false, err
	}
	unchanged := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(stockPrefix+sku), "=", stock.Revision)}
	var writing []*waitingMove
	mine := map[string]moveRecord{} // of this batch: a retry may wait beside the attempt that it repeats
	for i, w := range batch {
		rec, known := mine[w.ID]
		w.err, w.stock = nil, Stock{}
		if kvs := resp.Responses[i+1].GetResponseRange().Kvs; len(kvs) > 0 {
			known = true
			if rec, err = decodeMove(w.ID, kvs[0].Value); err != nil {
				return false, err
			}
			w.stock = Stock{SKU: sku, Level: rec.Level, Revision: kvs[0].ModRevision}
		}
		switch {
		case known && (rec.SKU != sku || rec.Delta != w.Delta):
			w.err = ErrKeyReused
		case rec.Short:
			w.err = ErrShort
		case known:
			if w.stock.Revision == 0 {
				writing = append(writing, w)
			}
		default:
			rec = moveRecord{SKU: sku, Delta: w.Delta, Short: stock.Level+w.Delta < 0}
			if rec.Short {
				w.err = ErrShort
			} else {
				stock.Level += w.Delta
				writing = append(writing, w)
			}
			mine[w.ID] = rec
		}
	}
	if len(mine) == 0 {
		return true, nil
	}
	var writes []clientv3.Op
	for id, rec := range mine {
		rec.Level = stock.Level
		body, err := json.Marshal(rec)
		if err != nil {
			return false, err
		}
		writes = append(writes, clientv3.OpPut(movePrefix+id, string(body)))
		unchanged = append(unchanged, clientv3.Compare(clientv3.CreateRevision(movePrefix+id), "=", 0))
	}
	if len(writing) > 0 { // who watches it hears of no refusals
		body, err := json.Marshal(stockRecord{Level: stock.Level})
		if err != nil {
			return false, err
		}
		writes = append(writes, clientv3.OpPut(stockPrefix+sku, string(body)))
	}
	done, err := s.etcd.Txn(ctx).If(unchanged...).Then(writes...).Commit()
	if err != nil || !done.Succeeded {
		return false, err
	}
	for _, w := range writing {
		w.stock = Stock{SKU: sku, Level: stock.Level, Revision: done.Header.Revision}
	}
	return true, nil
}
