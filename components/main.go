// Command masthead-components is etcd and Kubernetes as one static program.
//
// The program that runs is chosen by the name it is called by, as busybox does: the
// image holds one file and a link for each name. One file shares its pages between the
// services and makes the image a third of the size of separate programs.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	_ "time/tzdata" // CronJobs name time zones and the image has no zone files

	_ "k8s.io/client-go/plugin/pkg/client/auth"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

func main() {
	name := filepath.Base(os.Args[0])
	program, known := programs[name]
	if !known && len(os.Args) > 1 {
		// Called by its own name: the first argument says which program.
		if named, ok := programs[os.Args[1]]; ok {
			program, known = named, true
			os.Args = os.Args[1:]
		}
	}
	if !known {
		names := make([]string, 0, len(programs))
		for each := range programs {
			names = append(names, each)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "%s: not a program of this file; call it by one of these names: %s\n",
			name, strings.Join(names, ", "))
		os.Exit(64)
	}
	os.Exit(program())
}
