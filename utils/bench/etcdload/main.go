// etcdload: the load that the benches give to etcd: puts, gets, transactions, keepalives and
// watches in a closed loop, on Debian's clientv3.
// Build: GOPATH=/usr/share/gocode GO111MODULE=off go build -o etcdload main.go
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
	pb "go.etcd.io/etcd/etcdserver/etcdserverpb"
	"google.golang.org/grpc"
)

const leaseSeconds = 3600
const putsPerTxn = 100              // below the server's limit of 128
const drainLimit = 30 * time.Second // after the last put, for the events still under way

var (
	op        = flag.String("op", "keepalive", "put|get|txn100|keepalive|watch|fill|leader|grant")
	endpoint  = flag.String("endpoint", "127.0.0.1:2379", "servers, by commas; connections take turns")
	conns     = flag.Int("conns", 1, "connections")
	clients   = flag.Int("clients", 1, "concurrent clients, spread over the connections")
	keys      = flag.Int("keys", 100000, "put, get, txn100, fill: how many keys")
	watchers  = flag.Int("watchers", 1000, "watch: watchers of one key, spread over the connections")
	putters   = flag.Int("putters", 1, "watch: concurrent putters, on a connection of their own")
	seconds   = flag.Float64("seconds", 3, "how long")
	valueSize = flag.Int("value-bytes", 256, "value size")
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcdload:", err)
		os.Exit(1)
	}
}

func dial(i int) *clientv3.Client {
	all := strings.Split(*endpoint, ",")
	return dialTo(all[i%len(all)])
}

func dialTo(endpoint string) *clientv3.Client {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint},
		DialTimeout: 5 * time.Second, DialOptions: []grpc.DialOption{grpc.WithBlock()}})
	check(err)
	return c
}

func report(ops int64, elapsed time.Duration, latencies [][]time.Duration) {
	var all []time.Duration
	for _, l := range latencies {
		all = append(all, l...)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	at := func(permille int) float64 {
		if len(all) == 0 {
			return 0
		}
		return float64(all[(len(all)-1)*permille/1000]) / 1e3
	}
	fmt.Printf("ops=%d seconds=%.3f rate=%.0f p50_us=%.1f p99_us=%.1f p999_us=%.1f max_us=%.1f\n",
		ops, elapsed.Seconds(), float64(ops)/elapsed.Seconds(), at(500), at(990), at(999), at(1000))
}

// loop runs `do` on `count` goroutines until the time is over.
func loop(count int, do func(i int)) (time.Time, [][]time.Duration) {
	latencies := make([][]time.Duration, count)
	begin := time.Now()
	end := begin.Add(time.Duration(*seconds * float64(time.Second)))
	var all sync.WaitGroup
	for i := 0; i < count; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			for now := time.Now(); now.Before(end); {
				do(i)
				after := time.Now()
				latencies[i] = append(latencies[i], after.Sub(now))
				now = after
			}
		}(i)
	}
	all.Wait()
	return begin, latencies
}

func keepalive(ctx context.Context, cs []*clientv3.Client) {
	streams := make([]pb.Lease_LeaseKeepAliveClient, *clients)
	leases := make([]int64, *clients)
	for i := range streams {
		c := cs[i%len(cs)]
		granted, err := c.Grant(ctx, leaseSeconds)
		check(err)
		leases[i] = int64(granted.ID)
		streams[i], err = clientv3.RetryLeaseClient(c).LeaseKeepAlive(ctx)
		check(err)
	}
	var done int64
	begin, latencies := loop(*clients, func(i int) {
		check(streams[i].Send(&pb.LeaseKeepAliveRequest{ID: leases[i]}))
		_, err := streams[i].Recv()
		check(err)
		atomic.AddInt64(&done, 1)
	})
	report(done, time.Since(begin), latencies)
}

func key(n int) string { return fmt.Sprintf("key:%012d", n) }

// value cuts a printable value out of a pool that a compressor cannot cheat with.
func value(r *rand.Rand, pool string) string {
	at := r.Intn(len(pool) - *valueSize)
	return pool[at : at+*valueSize]
}

func valuePool() string {
	pool := make([]byte, 1<<20)
	for i := range pool {
		pool[i] = byte('!' + rand.Intn(90))
	}
	return string(pool)
}

func txn(ctx context.Context, c *clientv3.Client, keyOf func(i int) string, r *rand.Rand, pool string) {
	puts := make([]clientv3.Op, putsPerTxn)
	for i := range puts {
		puts[i] = clientv3.OpPut(keyOf(i), value(r, pool))
	}
	_, err := c.Txn(ctx).Then(puts...).Commit()
	check(err)
}

// keyed runs put, get or txn100 on random keys; each operation counts as `weight`.
func keyed(ctx context.Context, cs []*clientv3.Client) {
	pool := valuePool()
	sources := make([]*rand.Rand, *clients)
	for i := range sources {
		sources[i] = rand.New(rand.NewSource(time.Now().UnixNano() + int64(i)))
	}
	var done, weight int64 = 0, 1
	if *op == "txn100" {
		weight = putsPerTxn
	}
	begin, latencies := loop(*clients, func(i int) {
		c, r := cs[i%len(cs)], sources[i]
		switch *op {
		case "put":
			_, err := c.Put(ctx, key(r.Intn(*keys)), value(r, pool))
			check(err)
		case "get":
			got, err := c.Get(ctx, key(r.Intn(*keys)))
			check(err)
			if len(got.Kvs) != 1 || len(got.Kvs[0].Value) != *valueSize {
				check(fmt.Errorf("get: %d keys", len(got.Kvs)))
			}
		case "txn100":
			first := r.Intn(*keys/putsPerTxn) * putsPerTxn // distinct keys: etcd insists
			txn(ctx, c, func(n int) string { return key(first + n) }, r, pool)
		}
		atomic.AddInt64(&done, weight)
	})
	report(done, time.Since(begin), latencies)
}

func fill(ctx context.Context, c *clientv3.Client) {
	pool := valuePool()
	r := rand.New(rand.NewSource(1))
	begin := time.Now()
	for first := 0; first < *keys; first += putsPerTxn {
		txn(ctx, c, func(n int) string { return key(first + n) }, r, pool)
	}
	report(int64(*keys), time.Since(begin), nil)
}

// leader prints the endpoint of the member that leads.
func leader(ctx context.Context) {
	for giveUp := time.Now().Add(10 * time.Second); time.Now().Before(giveUp); {
		for _, endpoint := range strings.Split(*endpoint, ",") {
			c := dialTo(endpoint)
			status, err := c.Status(ctx, endpoint)
			c.Close()
			if err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId {
				fmt.Println(endpoint)
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	check(fmt.Errorf("no member leads"))
}

// grant commits something that writes no key: after it reads are fast again (see group_rows.py).
func grant(ctx context.Context, c *clientv3.Client) {
	_, err := c.Grant(ctx, leaseSeconds)
	check(err)
}

func watch(ctx context.Context, cs []*clientv3.Client) {
	const key = "watched/key"
	var events, puts int64
	var ready sync.WaitGroup
	for i := 0; i < *watchers; i++ {
		ready.Add(1)
		go func(c *clientv3.Client) {
			replies := c.Watch(ctx, key, clientv3.WithCreatedNotify())
			<-replies
			ready.Done()
			for reply := range replies {
				check(reply.Err())
				atomic.AddInt64(&events, int64(len(reply.Events)))
			}
		}(cs[i%len(cs)])
	}
	ready.Wait()
	value := strings.Repeat("v", *valueSize)
	putter := dial(0)
	begin, latencies := loop(*putters, func(int) {
		_, err := putter.Put(ctx, key, value)
		check(err)
		atomic.AddInt64(&puts, 1)
	})
	want := puts * int64(*watchers)
	for giveUp := time.Now().Add(drainLimit); atomic.LoadInt64(&events) < want; {
		if time.Now().After(giveUp) {
			check(fmt.Errorf("%d events of %d are missing", want-atomic.LoadInt64(&events), want))
		}
		time.Sleep(5 * time.Millisecond)
	}
	report(want, time.Since(begin), latencies)
}

func main() {
	flag.Parse()
	ctx := context.Background()
	if *op == "leader" {
		leader(ctx)
		return
	}
	cs := make([]*clientv3.Client, *conns)
	for i := range cs {
		cs[i] = dial(i)
	}
	switch *op {
	case "put", "get", "txn100":
		keyed(ctx, cs)
	case "fill":
		fill(ctx, cs[0])
	case "grant":
		grant(ctx, cs[0])
	case "keepalive":
		keepalive(ctx, cs)
	case "watch":
		watch(ctx, cs)
	default:
		check(fmt.Errorf("unknown op %s", *op))
	}
}
