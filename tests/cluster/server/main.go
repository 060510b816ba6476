// A stand-in for a model server on the real node: deaf to SIGTERM, generating tokens for ever.
//
//	server serve [-listen 127.0.0.1:0] [-rate 1000] [-children 0] [-polite]
//	server pause
//
// `serve` answers /metrics with names that vLLM uses; children are processes in sessions of their
// own, as workers that have detached. `pause` only holds a pod's sandbox open, and ends politely.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
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
	if err := flags.Parse(arguments); err != nil {
		fail(err)
	}
	if !*polite {
		signal.Ignore(syscall.SIGTERM)
	}
	for range *children {
		child := exec.Command("/proc/self/exe", "child")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			fail(err)
		}
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		fail(err)
	}
	start := time.Now()
	http.HandleFunc("/metrics", func(answer http.ResponseWriter, _ *http.Request) {
		tokens := time.Since(start).Seconds() * *rate
		answer.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprintf(answer, "vllm:generation_tokens_total{model_name=\"stand-in\"} %f\n", tokens)
		fmt.Fprintf(answer, "vllm:num_requests_running{model_name=\"stand-in\"} 1\n")
	})
	fmt.Println("serving on", listener.Addr())
	fail(http.Serve(listener, nil))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
