package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/etcdtest"
)

func TestMoves(t *testing.T) {
	t.Parallel()
	s := open(t, etcdtest.Start(t, 1))
	ctx := within(t, 10*time.Second)
	before, err := s.Level(ctx, "a")
	require.NoError(t, err)
	assert.Equal(t, Stock{SKU: "a", Level: InitialStock("a")}, before)

	first, err := s.MoveStock(ctx, Move{ID: "order/1", SKU: "a", Delta: -3})
	require.NoError(t, err)
	assert.Equal(t, before.Level-3, first.Level)
	again, err := s.MoveStock(ctx, Move{ID: "order/1", SKU: "a", Delta: -3})
	require.NoError(t, err)
	assert.Equal(t, first, again, "the same answer, and nothing taken")
	_, err = s.MoveStock(ctx, Move{ID: "order/1", SKU: "a", Delta: -4})
	require.ErrorIs(t, err, ErrKeyReused)
	_, err = s.MoveStock(ctx, Move{ID: "order/1", SKU: "b", Delta: -3})
	require.ErrorIs(t, err, ErrKeyReused)
	_, err = s.MoveStock(ctx, Move{ID: "order/2", SKU: "a", Delta: -2 * stockLeast})
	require.ErrorIs(t, err, ErrShort)
	got, err := s.Level(ctx, "a")
	require.NoError(t, err)
	assert.Equal(t, first, got)
}

// A move that was refused stays so when there is more, or two who ask for it, one before and one after, would disagree about it.
func TestRefusedMove(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	ctx := within(t, 10*time.Second)
	s := open(t, c)
	all := InitialStock("a")
	none, err := s.MoveStock(ctx, Move{ID: "adjustment/1", SKU: "a", Delta: -all})
	require.NoError(t, err)
	assert.Zero(t, none.Level)
	_, err = s.MoveStock(ctx, Move{ID: "order/1", SKU: "a", Delta: -1})
	require.ErrorIs(t, err, ErrShort)
	same, err := s.Level(ctx, "a")
	require.NoError(t, err)
	assert.Equal(t, none, same, "nothing for those who watch it")
	more, err := s.MoveStock(ctx, Move{ID: "adjustment/2", SKU: "a", Delta: 5})
	require.NoError(t, err)
	for range 2 {
		_, err = open(t, c).MoveStock(ctx, Move{ID: "order/1", SKU: "a", Delta: -1})
		require.ErrorIs(t, err, ErrShort)
	}
	_, err = s.MoveStock(ctx, Move{ID: "order/1", SKU: "a", Delta: -2})
	require.ErrorIs(t, err, ErrKeyReused)
	now, err := s.Level(ctx, "a")
	require.NoError(t, err)
	assert.Equal(t, more, now)
}

// Many at once, from two replicas, each of them twice: each is made once, and together they take few transactions.
func TestMovesAtOnce(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	replicas := []*Store{open(t, c), open(t, c)}
	ctx := within(t, 20*time.Second)
	const n = 300
	var wg sync.WaitGroup
	for i := range 2 * n {
		wg.Go(func() {
			_, err := replicas[i%2].MoveStock(ctx, Move{ID: fmt.Sprintf("order/%d", i/2), SKU: "a", Delta: -1})
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	got, err := replicas[0].Level(ctx, "a")
	require.NoError(t, err)
	assert.Equal(t, InitialStock("a")-n, got.Level)
	resp, err := c.Client().Get(ctx, stockPrefix+"a")
	require.NoError(t, err)
	assert.Less(t, resp.Kvs[0].Version, int64(n/2), "as many transactions")
	t.Logf("%d moves in %d transactions", n, resp.Kvs[0].Version)
}

// Moves that are made at once have one revision, and so one level: whoever remembers the level of the highest revision must not remember
// one that never was.
func TestOneLevelForEachRevision(t *testing.T) {
	t.Parallel()
	s := open(t, etcdtest.Start(t, 1))
	ctx := within(t, 10*time.Second)
	move := func(id string, delta int64) *waitingMove {
		return &waitingMove{Move: Move{ID: id, SKU: "a", Delta: delta}, ctx: ctx}
	}
	left := InitialStock("a") - 6
	batch := []*waitingMove{move("1", -1), move("2", -2), move("short", -left-10), move("2", -2), move("3", -3)}
	require.NoError(t, s.moveTogether(ctx, "a", batch))
	now, err := s.Level(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, left, now.Level)
	for _, w := range batch {
		if w.ID == "short" {
			require.ErrorIs(t, w.err, ErrShort)
			continue
		}
		require.NoError(t, w.err)
		assert.Equal(t, now, w.stock)
		again, err := s.MoveStock(ctx, w.Move)
		require.NoError(t, err)
		assert.Equal(t, now, again, "the same answer")
	}
}

// An attempt whose answer is lost is repeated, and takes once.
func TestMoveLostAnswers(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	ctx := within(t, 20*time.Second)
	s := losing(t, c, 4, func() {})
	got, err := s.MoveStock(ctx, Move{ID: "order/1", SKU: "a", Delta: -5})
	require.NoError(t, err)
	now, err := open(t, c).Level(ctx, "a")
	require.NoError(t, err)
	assert.Equal(t, InitialStock("a")-5, now.Level)
	assert.Equal(t, now, got, "the revision answered is that of the one write")
}

// A caller that leaves does not take the others of its batch with it.
func TestMoveCallerLeaves(t *testing.T) {
	t.Parallel()
	s := open(t, etcdtest.Start(t, 1))
	gone, leave := context.WithCancel(t.Context())
	leave()
	_, err := s.MoveStock(gone, Move{ID: "order/1", SKU: "a", Delta: -1})
	if err != nil {
		require.ErrorIs(t, err, ErrAway)
		require.Equal(t, codes.Canceled, Code(err))
	}
	_, err = s.MoveStock(within(t, 10*time.Second), Move{ID: "order/2", SKU: "a", Delta: -1})
	require.NoError(t, err)
}

// What try says of a request whose own time was over first is said of a move, too, whichever of the two notices it.
func TestMoveHurried(t *testing.T) {
	t.Parallel()
	silent := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
		<-ctx.Done()
		return ctx.Err()
	}
	etcd, err := dial([]string{"http://127.0.0.1:1"}, zap.NewNop(), grpc.WithChainUnaryInterceptor(silent))
	require.NoError(t, err)
	defer etcd.Close()
	for attempt, want := range map[time.Duration]codes.Code{time.Minute: codes.DeadlineExceeded, time.Millisecond: codes.Unavailable} {
		s := New(etcd, config.Config{StoreTry: attempt})
		for range 20 {
			_, err := s.MoveStock(within(t, 20*time.Millisecond), Move{ID: "order/1", SKU: "a", Delta: -1})
			require.Equal(t, want, Code(err), "%v", err)
			require.ErrorIs(t, err, ErrAway, "it may have been made")
		}
		s.Close()
	}
}

var errEnough = errors.New("seen enough")

// Whoever names the last revision that it saw continues without a gap and without a repetition.
func TestWatchStock(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	s := open(t, c)
	ctx := within(t, 20*time.Second)
	collect := func(after int64, n int) (out []Stock) {
		err := s.WatchStock(ctx, "a", after, func(now Stock) error {
			if out = append(out, now); len(out) == n {
				return errEnough
			}
			return nil
		})
		require.ErrorIs(t, err, errEnough)
		return out
	}
	begin := collect(0, 1)
	assert.Equal(t, InitialStock("a"), begin[0].Level)
	for i := range 5 {
		_, err := s.MoveStock(ctx, Move{ID: fmt.Sprint(i), SKU: "a", Delta: -1})
		require.NoError(t, err)
	}
	got := collect(begin[0].Revision, 2)
	got = append(got, collect(got[1].Revision, 3)...)
	for i, now := range got {
		assert.Equal(t, InitialStock("a")-int64(i)-1, now.Level)
	}
	now := collect(0, 1)
	assert.Equal(t, InitialStock("a")-5, now[0].Level)

	// What the store has forgotten is made up for by the level as it is.
	_, err := c.Client().Compact(ctx, got[4].Revision, clientv3.WithCompactPhysical())
	require.NoError(t, err)
	late := collect(begin[0].Revision, 1)
	assert.Equal(t, InitialStock("a")-5, late[0].Level)
}
