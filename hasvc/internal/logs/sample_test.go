package logs

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// Of a thousand traces, how many write debug lines: few while things go well, more while errors are many, few again after.
func TestSampling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, seen := observer.New(zapcore.InfoLevel)
		log := zap.New(Sampled(core))
		count := func() (n int) {
			seen.TakeAll()
			for i := range 1000 {
				log.With(zap.String("traceId", fmt.Sprint("trace-", i))).Debug("fine")
			}
			return seen.Len()
		}
		calm := count()
		assert.InDelta(t, 1000*calmShare, calm, 9)
		for range troubleFrom {
			log.Warn("an error")
		}
		assert.Equal(t, calm, count(), "as many as that are nothing unusual")
		log.Error("one more")
		assert.InDelta(t, 1000*troubleShare, count(), 60)
		time.Sleep(30 * time.Second)
		assert.InDelta(t, 1000*troubleShare, count(), 60, "the minute has not passed")
		time.Sleep(31 * time.Second)
		assert.Equal(t, calm, count())
		seen.TakeAll()
		log.Debug("of no trace")
		assert.Zero(t, seen.Len())
		log.Info("and above")
		assert.Equal(t, 1, seen.Len())
	})
}

// A level that is set stays what it is.
func TestSamplingKeepsLevels(t *testing.T) {
	for level, want := range map[zapcore.Level]int{zapcore.DebugLevel: 100, zapcore.WarnLevel: 0} {
		core, seen := observer.New(level)
		log := zap.New(Sampled(core))
		for i := range 100 {
			log.With(zap.String("traceId", fmt.Sprint("trace-", i))).Debug("fine")
		}
		assert.Equal(t, want, seen.Len(), "%s", level)
	}
}
