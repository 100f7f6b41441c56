// Istio is Istio's own code as a judge: the parts of istioctl that render, install and remove Istio and make remote
// secrets, the engine of helm with Istio's charts, what istiod does with the kubeconfig of a remote secret, and what it sends
// to proxies.
//
//	istio install -y -f FILE                          as istioctl does it, but for waiting: where it runs no pod ever is ready
//	istio uninstall|manifest|create-remote-secret     as istioctl does it
//	istio template NAME CHART NAMESPACE VALUES        the objects of a chart, as helm renders them
//	helm upgrade|uninstall ...                        by that name: such a release, applied or deleted
//	istio discover                                    what istiod sends to each proxy of the meshes that are read as JSON
//	istio accept KUBECONFIG                           whether istiod takes it, and how many Services it then sees
//	istio read --kubeconfig ... --cluster ...         what istiod reads other clusters with, and its metrics of that
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"istio.io/istio/istioctl/pkg/cli"
	"istio.io/istio/istioctl/pkg/multicluster"
	"istio.io/istio/operator/cmd/mesh"
	"istio.io/istio/operator/pkg/install"
	"istio.io/istio/operator/pkg/render"
	"istio.io/istio/operator/pkg/util/clog"
	"istio.io/istio/operator/pkg/util/progress"
	"istio.io/istio/pkg/kube"
	"istio.io/istio/pkg/log"
)

func main() {
	if filepath.Base(os.Args[0]) == "helm" {
		root := &cobra.Command{Use: "helm", SilenceUsage: true}
		root.AddCommand(helmCmds()...)
		if err := root.Execute(); err != nil {
			os.Exit(1)
		}
		return
	}
	root := &cobra.Command{Use: "istio", SilenceUsage: true}
	ctx := cli.NewCLIContext(cli.AddRootFlags(root.PersistentFlags()))
	root.AddCommand(installCmd(ctx), mesh.UninstallCmd(ctx), mesh.ManifestCmd(ctx))
	root.AddCommand(multicluster.NewCreateRemoteSecretCommand(ctx))
	root.AddCommand(&cobra.Command{Use: "template", Args: cobra.ExactArgs(4), RunE: template})
	root.AddCommand(&cobra.Command{Use: "discover", Args: cobra.NoArgs, RunE: discover})
	root.AddCommand(readCmd())
	root.AddCommand(&cobra.Command{Use: "accept", Args: cobra.ExactArgs(1), RunE: accept})
	if err := root.Execute(); err != nil {
		os.Exit(1)
	}
}

func installCmd(ctx cli.Context) *cobra.Command {
	var files []string
	cmd := &cobra.Command{Use: "install", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		client, err := ctx.CLIClient()
		if err != nil {
			return err
		}
		logger := clog.NewConsoleLogger(os.Stdout, os.Stderr, log.RegisterScope("judge", "the judge"))
		manifests, merged, err := render.GenerateManifest(files, nil, false, client, logger)
		if err != nil {
			return err
		}
		return install.Installer{
			SkipWait: true, Kube: client, Values: merged, Logger: logger, ProgressLogger: progress.NewLog(),
		}.InstallManifests(manifests)
	}}
	cmd.Flags().StringSliceVarP(&files, "filename", "f", nil, "")
	cmd.Flags().BoolP("skip-confirmation", "y", false, "")
	return cmd
}

func template(_ *cobra.Command, args []string) error {
	objects, err := rendered(args[0], args[1], args[2], args[3])
	if err != nil {
		return err
	}
	for _, object := range objects {
		fmt.Printf("---\n%s\n", object.Content)
	}
	return nil
}

func accept(_ *cobra.Command, args []string) error {
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	config, err := kube.NewUntrustedRestConfig(text)
	if err != nil {
		return err
	}
	client, err := kube.NewClient(kube.NewClientConfigForRestConfig(config), "judged")
	if err != nil {
		return err
	}
	services, err := client.Kube().CoreV1().Services("").List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	fmt.Println(len(services.Items))
	return nil
}
