// A stand-in for a model server on the real node: deaf to SIGTERM, generating tokens for ever.
//
//	server serve [-listen 127.0.0.1:0] [-rate 1000] [-children 0] [-polite] [-fork-every 0] [-hold 0]
//	server pause
//
// `serve` answers /metrics with names that vLLM uses, /v1/completions with the number of requests
// answered so far (kept in memory only: a new process begins at 1 again), and /healthz for probes.
// Children are processes in sessions of their own, as workers that have detached; -fork-every 5ms
// starts one more that short-lived each time, -hold 64 keeps that many MB of memory in use. `pause`
// only holds a pod's sandbox open, and ends politely.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: server serve|pause|child"))
	}
	switch os.Args[1] {
	case "pause":
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
		<-asked
	case "child":
		signal.Ignore(syscall.SIGTERM)
		for { // not `select {}`: Go ends a program in which nothing can ever happen
			time.Sleep(time.Hour)
		}
	case "brief":
		time.Sleep(20 * time.Millisecond)
	case "serve":
		serve(os.Args[2:])
	default:
		fail(fmt.Errorf("unknown command %q", os.Args[1]))
	}
}

func serve(arguments []string) {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address of /metrics")
	rate := flags.Float64("rate", 1000, "tokens a second")
	children := flags.Int("children", 0, "detached processes to start")
	polite := flags.Bool("polite", false, "end on SIGTERM")
	forkEvery := flags.Duration("fork-every", 0, "start a short-lived child this often")
	hold := flags.Int("hold", 0, "MB of memory to keep in use")
	if err := flags.Parse(arguments); err != nil {
		fail(err)
	}
	if !*polite {
		signal.Ignore(syscall.SIGTERM)
	}
	for range *children {
		if _, err := start("child"); err != nil {
			fail(err)
		}
	}
	if *forkEvery > 0 {
		go fork(*forkEvery)
	}
	weights := touched(*hold << 20)
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		fail(err)
	}
	began := time.Now()
	var answered atomic.Uint64
	http.HandleFunc("/metrics", func(answer http.ResponseWriter, _ *http.Request) {
		tokens := time.Since(began).Seconds() * *rate
		answer.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprintf(answer, "vllm:generation_tokens_total{model_name=\"stand-in\"} %f\n", tokens)
		fmt.Fprintf(answer, "vllm:num_requests_running{model_name=\"stand-in\"} 1\n")
	})
	http.HandleFunc("/v1/completions", func(answer http.ResponseWriter, _ *http.Request) {
		count := answered.Add(1)
		answer.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(answer, "{\"object\": \"text_completion\", \"answered\": %d, \"weights\": %d}\n",
			count, len(weights))
	})
	http.HandleFunc("/healthz", func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(answer, "ok")
	})
	fmt.Println("serving on", listener.Addr())
	fail(http.Serve(listener, nil))
}

// start runs this program again, in a session of its own.
func start(command string) (*exec.Cmd, error) {
	child := exec.Command("/proc/self/exe", command)
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return child, child.Start()
}

// fork starts a short-lived child each time, for ever; where that is refused it tries again.
func fork(every time.Duration) {
	for range time.Tick(every) {
		if child, err := start("brief"); err == nil {
			go child.Wait() // reaped
		}
	}
}

// touched returns memory that is really used, as weights are: pages that were written to.
func touched(size int) []byte {
	memory := make([]byte, size)
	for at := 0; at < size; at += 4096 {
		memory[at] = 1
	}
	return memory
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
