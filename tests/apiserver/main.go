// Apiserver is one cluster of the tests: a real kube-apiserver, and the etcd that it keeps its objects in, as one
// process. The first argument is the directory of etcd's data, the rest are the flags of kube-apiserver.
package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// How long etcd has to come up.
const patience = time.Minute

func main() {
	// It lives for seconds: collecting less often saves a fifth of the work of a start, for some memory.
	debug.SetGCPercent(400)
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: %s DIRECTORY [FLAG OF KUBE-APISERVER...]", filepath.Base(args[0]))
	}
	storage, err := startEtcd(args[1])
	if err != nil {
		return fmt.Errorf("etcd in %s: %w", args[1], err)
	}
	defer storage.Close()
	// It was told to listen on any port, and knows by now on which.
	endpoint := "http://" + storage.Clients[0].Addr().String()
	server := app.NewAPIServerCommand()
	server.SetArgs(append(args[2:], "--etcd-servers="+endpoint))
	return server.Execute()
}

func startEtcd(directory string) (*embed.Etcd, error) {
	anyPort := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	config := embed.NewConfig()
	config.Dir = directory
	config.ListenClientUrls, config.AdvertiseClientUrls = anyPort, anyPort
	config.ListenPeerUrls, config.AdvertisePeerUrls = anyPort, anyPort
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.LogLevel = "warn"
	// What is kept here lives as long as a test: there is no need to wait for the disk.
	config.UnsafeNoFsync = true
	// Nor to write 64 MB of nothing ahead of some hundred objects, twice.
	wal.SegmentSizeBytes = 4 << 20
	storage, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-storage.Server.ReadyNotify():
		return storage, nil
	case err := <-storage.Err():
		return nil, err
	case <-time.After(patience):
		storage.Close()
		return nil, fmt.Errorf("not ready after %s", patience)
	}
}
