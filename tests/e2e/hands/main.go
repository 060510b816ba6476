// What the node guard's hands do to one cgroup, step by step, told line by line to its pod's status.
//
//	hands 2 /sys/fs/cgroup/NAME
//	hands 1 /sys/fs/cgroup/freezer/NAME /sys/fs/cgroup/pids/NAME
//
// It goes on after a step that is refused, so that a test sees which ones a missing privilege costs.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var report strings.Builder

func tell(step string, err error) {
	outcome := "ok"
	if err != nil {
		outcome = err.Error()
		if at := strings.LastIndex(outcome, ": "); at >= 0 {
			outcome = outcome[at+2:]
		}
	}
	fmt.Fprintf(&report, "%s: %s\n", step, outcome)
}

func write(file, text string) error {
	opened, err := os.OpenFile(file, os.O_WRONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer opened.Close()
	_, err = opened.WriteString(text)
	return err
}

// Whether the file says so within two seconds.
func says(file, word string) error {
	var text []byte
	for range 200 {
		text, _ = os.ReadFile(file)
		if strings.Contains("\n"+string(text), "\n"+word+"\n") {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("says %q", strings.TrimSpace(string(text)))
}

func signal(procs string) error {
	text, err := os.ReadFile(procs)
	if err != nil {
		return err
	}
	seen := strings.Fields(string(text))
	if len(seen) == 0 {
		return fmt.Errorf("sees no process")
	}
	for _, each := range seen {
		pid, _ := strconv.Atoi(each)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	switch os.Args[1] {
	case "1":
		freezer, pids := os.Args[2], os.Args[3]
		tell("close", write(pids+"/pids.max", "0"))
		tell("freeze", write(freezer+"/freezer.state", "FROZEN"))
		tell("frozen", says(freezer+"/freezer.state", "FROZEN"))
		tell("signal", signal(freezer+"/cgroup.procs"))
		tell("thaw", write(freezer+"/freezer.state", "THAWED"))
	case "2":
		folder := os.Args[2]
		tell("freeze", write(folder+"/cgroup.freeze", "1"))
		tell("frozen", says(folder+"/cgroup.events", "frozen 1"))
		tell("kill", write(folder+"/cgroup.kill", "1"))
		tell("thaw", write(folder+"/cgroup.freeze", "0"))
		tell("prove", says(folder+"/cgroup.events", "populated 0"))
	}
	tell("state", os.WriteFile("/var/lib/killswitch/node.json", []byte("{}"), 0o600))
	tell("root", os.WriteFile("/anything", nil, 0o600))
	if err := os.WriteFile("/dev/termination-log", []byte(report.String()), 0o600); err != nil {
		os.Exit(1)
	}
}
