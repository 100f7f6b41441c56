package main

import (
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/spf13/cobra"
	meshconfig "istio.io/api/mesh/v1alpha1"
	"k8s.io/client-go/tools/clientcmd"

	"istio.io/istio/pkg/cluster"
	"istio.io/istio/pkg/config/mesh/meshwatcher"
	"istio.io/istio/pkg/kube"
	"istio.io/istio/pkg/kube/multicluster"
	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/monitoring"
)

// readCmd is that part of an istiod which reads other clusters by the remote secrets of its own. It tells of them where and
// as istiod does, at /metrics, says the port, and goes on until somebody ends it.
func readCmd() *cobra.Command {
	var kubeconfig, context, own, address string
	cmd := &cobra.Command{Use: "read", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		for _, scope := range log.Scopes() {
			scope.SetOutputLevel(log.NoneLevel)
		}
		metrics, err := monitoring.RegisterPrometheusExporter(nil, nil)
		if err != nil {
			return err
		}
		rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}
		overrides := &clientcmd.ConfigOverrides{CurrentContext: context}
		client, err := kube.NewClient(clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides), cluster.ID(own))
		if err != nil {
			return err
		}
		client = kube.EnableCrdWatcher(client)
		controller := multicluster.NewController(multicluster.ControllerOptions{
			Client: client, ClusterID: cluster.ID(own), SystemNamespace: "istio-system",
			MeshConfig: meshwatcher.NewTestWatcher(&meshconfig.MeshConfig{}),
		})
		stop := make(chan struct{})
		if err := controller.Run(stop); err != nil {
			return err
		}
		client.RunAndWait(stop)
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stdout, listener.Addr().(*net.TCPAddr).Port)
		mux := http.NewServeMux()
		mux.Handle("/metrics", metrics)
		return http.Serve(listener, mux)
	}}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "")
	cmd.Flags().StringVar(&context, "context", "", "")
	cmd.Flags().StringVar(&own, "cluster", "", "")
	cmd.Flags().StringVar(&address, "listen", "127.0.0.1:0", "")
	return cmd
}
