package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"sekisho/internal/gate/api"
)

// BenchmarkDoorsPage asks for the page of doors 200 times a second, each time over HTTP with
// a session's cookie, for as long as it takes to have b.N answers; p99 is what matters. A
// request begins when its time has come, whether the one before has been answered or not.
func BenchmarkDoorsPage(b *testing.B) {
	w := newWorld(b)
	addr := served(b, w, Serving{Limits: Limits{PerSource: 1000}})
	w.people = newRate[string](time.Microsecond, 1<<20, 100)
	if _, err := w.gate.Open(context.Background(), w.who("hanako"), "web", api.OpenRequest{}); err != nil {
		b.Fatal(err)
	}
	var tokens []string
	for _, name := range []string{"hanako", "taro", "lea", "root"} {
		tokens = append(tokens, w.session(name))
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	one := func(i int) error {
		r, err := http.NewRequest(get, "http://"+addr+"/", nil)
		if err != nil {
			return err
		}
		r.Host = "gate.example.com"
		w.withSession(r, tokens[i%len(tokens)])
		got, err := client.Do(r)
		if err != nil {
			return err
		}
		defer got.Body.Close()
		n, err := io.Copy(io.Discard, got.Body)
		if err == nil && (got.StatusCode != 200 || n < 2000) {
			err = fmt.Errorf("status %d, %d bytes", got.StatusCode, n)
		}
		return err
	}
	for i := range 20 {
		if err := one(i); err != nil {
			b.Fatal(err)
		}
	}
	var mu sync.Mutex
	var took []time.Duration
	var all sync.WaitGroup
	tick := time.NewTicker(time.Second / 200)
	defer tick.Stop()
	b.ResetTimer()
	for i := range b.N {
		<-tick.C
		began := time.Now()
		all.Go(func() {
			if err := one(i); err != nil {
				b.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began))
		})
	}
	all.Wait()
	b.StopTimer()
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
	b.ReportMetric(ms(took[min(len(took)-1, len(took)*99/100)]), "p99-ms")
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "requests/s")
}
