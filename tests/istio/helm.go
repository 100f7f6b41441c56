package main

import (
	"context"
	"fmt"
	"os"
	"path"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"istio.io/istio/operator/pkg/helm"
	"istio.io/istio/operator/pkg/manifest"
	"istio.io/istio/operator/pkg/values"
	"istio.io/istio/pkg/kube"
	"istio.io/istio/pkg/ptr"
)

// Where each chart lies among Istio's manifests.
var charts = map[string]string{
	"base":    "base",
	"istiod":  "istio-control/istio-discovery",
	"gateway": "gateway",
}

// release is what helm is told: the name, the chart and the flags that are given to it here.
type release struct {
	kubeconfig, context, namespace, file string
}

func (r *release) flags(cmd *cobra.Command) *cobra.Command {
	flags := cmd.Flags()
	flags.StringVar(&r.kubeconfig, "kubeconfig", "", "")
	flags.StringVar(&r.context, "kube-context", "", "")
	flags.StringVar(&r.namespace, "namespace", "default", "")
	flags.StringVarP(&r.file, "values", "f", "", "")
	flags.String("repo", "", "")
	flags.String("version", "", "")
	flags.Bool("install", false, "")
	flags.Bool("ignore-not-found", false, "")
	return cmd
}

// helmCmds are helm's verbs, by helm's engine with Istio's charts. What a release has made is kept in a ConfigMap, where
// helm itself has a Secret.
func helmCmds() []*cobra.Command {
	var r release
	upgrade := &cobra.Command{Use: "upgrade NAME CHART", Args: cobra.ExactArgs(2), RunE: func(_ *cobra.Command, args []string) error {
		return r.upgrade(args[0], args[1])
	}}
	uninstall := &cobra.Command{Use: "uninstall NAME", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		return r.uninstall(args[0])
	}}
	return []*cobra.Command{r.flags(upgrade), r.flags(uninstall)}
}

// rendered is the objects of a chart with the values of a file.
func rendered(name, chart, namespace, file string) ([]manifest.Manifest, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	given, err := values.MapFromYaml(text)
	if err != nil {
		return nil, err
	}
	directory, known := charts[path.Base(chart)]
	if !known {
		return nil, fmt.Errorf("no chart %s", chart)
	}
	objects, _, err := helm.Render(name, namespace, directory, values.MakeMap(given, "spec", "values"), nil)
	return objects, err
}

func (r *release) client() (kube.CLIClient, error) {
	return kube.NewCLIClient(kube.BuildClientCmd(r.kubeconfig, r.context))
}

func (r *release) upgrade(name, chart string) error {
	objects, err := rendered(name, chart, r.namespace, r.file)
	if err != nil {
		return err
	}
	client, err := r.client()
	if err != nil {
		return err
	}
	made := &corev1.ConfigMap{Data: map[string]string{}}
	made.Name, made.Labels = "release-"+name, map[string]string{"owner": "helm"}
	how := metav1.PatchOptions{Force: ptr.Of(true), FieldManager: "helm"}
	for i, object := range objects {
		dynamic, err := client.DynamicClientFor(object.GroupVersionKind(), object.Unstructured, r.namespace)
		if err != nil {
			return err
		}
		if _, err := dynamic.Patch(context.Background(), object.GetName(), types.ApplyPatchType, []byte(object.Content), how); err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
		if object.GetKind() != "CustomResourceDefinition" {
			made.Data[fmt.Sprintf("%03d", i)] = object.Content
		}
	}
	maps := client.Kube().CoreV1().ConfigMaps(r.namespace)
	if _, err = maps.Update(context.Background(), made, metav1.UpdateOptions{}); errors.IsNotFound(err) {
		_, err = maps.Create(context.Background(), made, metav1.CreateOptions{})
	}
	return err
}

func (r *release) uninstall(name string) error {
	client, err := r.client()
	if err != nil {
		return err
	}
	maps := client.Kube().CoreV1().ConfigMaps(r.namespace)
	made, err := maps.Get(context.Background(), "release-"+name, metav1.GetOptions{})
	if errors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, text := range made.Data {
		object, err := manifest.FromYaml([]byte(text))
		if err != nil {
			return err
		}
		dynamic, err := client.DynamicClientFor(object.GroupVersionKind(), object.Unstructured, r.namespace)
		if err != nil {
			return err
		}
		err = dynamic.Delete(context.Background(), object.GetName(), metav1.DeleteOptions{})
		if err != nil && !errors.IsNotFound(err) {
			return err
		}
	}
	return maps.Delete(context.Background(), made.Name, metav1.DeleteOptions{})
}
