package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httpwasm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkwasm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/wasm/v3"
	wasm "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"istio.io/istio/pilot/pkg/model"
	v3 "istio.io/istio/pilot/pkg/xds/v3"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/cluster"
	"istio.io/istio/pkg/config/mesh/meshwatcher"
	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/network"
)

// A control plane: the objects of Istio that it reads in its own cluster, and those of Kubernetes in all that it knows.
type controlPlane struct {
	Cluster string              `json:"cluster"`
	Config  []json.RawMessage   `json:"config"`
	Objects map[string][]object `json:"objects"`
	Proxies []proxy             `json:"proxies"`
}

type object = json.RawMessage

type proxy struct {
	Name      string            `json:"name"`
	ID        string            `json:"id"`
	Cluster   string            `json:"cluster"`
	Network   string            `json:"network"`
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels"`
	// The networks whose endpoints it asks for; none: all.
	View []string `json:"view"`
}

// What a proxy is sent, as far as our objects say it.
type sent struct {
	// The plugins of each listener, in order, as ECDS has them.
	Plugins map[string][]plugin `json:"plugins"`
	// The routes of each virtual host.
	Routes map[string][]route `json:"routes"`
	// The addresses behind each Envoy cluster, by priority.
	Endpoints map[string][][]string `json:"endpoints"`
	// The Envoy clusters that have the filter behind their load balancer.
	Behind []string `json:"behind"`
	// What server names a gateway has chains for.
	Names []string `json:"names"`
}

type plugin struct {
	Name          string `json:"name"`
	RootID        string `json:"rootId"`
	FailurePolicy string `json:"failurePolicy"`
	File          string `json:"file"`
	Configuration string `json:"configuration"`
}

type route struct {
	Name    string            `json:"name"`
	Headers map[string]string `json:"headers"`
	Cluster string            `json:"cluster"`
}

// What Istio's discovery server for tests asks of whoever runs it.
type failer struct{ cleanups []func() }

func (f *failer) Fail()                             { os.Exit(1) }
func (f *failer) FailNow()                          { os.Exit(1) }
func (f *failer) Fatal(args ...any)                 { fmt.Fprintln(os.Stderr, args...); os.Exit(1) }
func (f *failer) Fatalf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }
func (f *failer) Log(...any)                        {}
func (f *failer) Logf(string, ...any)               {}
func (f *failer) TempDir() string                   { return os.TempDir() }
func (f *failer) Helper()                           {}
func (f *failer) Cleanup(cleanup func())            { f.cleanups = append(f.cleanups, cleanup) }
func (f *failer) Skip(args ...any)                  { f.Fatal(args...) }

// discover reads control planes from standard input and says what each sends to its proxies: istiod's own discovery
// server, asked over its own protocol.
func discover(*cobra.Command, []string) error {
	for _, scope := range log.Scopes() {
		scope.SetOutputLevel(log.NoneLevel)
	}
	var planes []controlPlane
	if err := json.NewDecoder(os.Stdin).Decode(&planes); err != nil {
		return fmt.Errorf("the control planes cannot be read: %w", err)
	}
	answers := map[string]sent{}
	for _, plane := range planes {
		fail := &failer{}
		objects := map[cluster.ID]string{}
		for name, own := range plane.Objects {
			objects[cluster.ID(name)] = documents(own)
		}
		server := xds.NewFakeDiscoveryServer(fail, xds.FakeOptions{
			DefaultClusterName:              cluster.ID(plane.Cluster),
			KubernetesObjectStringByCluster: objects,
			ConfigString:                    documents(plane.Config),
			NetworksWatcher:                 meshwatcher.NewFixedNetworksWatcher(nil),
		})
		for _, proxy := range plane.Proxies {
			answers[proxy.Name] = (&asking{fail, server, proxy}).all()
		}
		slices.Reverse(fail.cleanups)
		for _, cleanup := range fail.cleanups {
			cleanup()
		}
	}
	return write(os.Stdout, answers)
}

func write(to io.Writer, answers map[string]sent) error {
	return json.NewEncoder(to).Encode(answers)
}

// JSON is YAML.
func documents(objects []json.RawMessage) string {
	texts := make([]string, 0, len(objects))
	for _, object := range objects {
		texts = append(texts, string(object))
	}
	return strings.Join(texts, "\n---\n")
}

type asking struct {
	fail   *failer
	server *xds.FakeDiscoveryServer
	proxy  proxy
}

func (a *asking) all() sent {
	answer := sent{
		Plugins: map[string][]plugin{}, Routes: map[string][]route{}, Endpoints: map[string][][]string{},
		Behind: []string{}, Names: []string{},
	}
	tables := []string{}
	slots := map[string][]string{}
	for _, listener := range resources[listenerv3.Listener](a, v3.ListenerType, nil) {
		a.read(listener, &answer, slots, &tables)
	}
	for listener, names := range slots {
		for _, name := range names {
			for _, found := range resources[corev3.TypedExtensionConfig](a, v3.ExtensionConfigurationType, []string{name}) {
				answer.Plugins[listener] = append(answer.Plugins[listener], a.configured(found))
			}
		}
	}
	if len(tables) > 0 {
		for _, table := range resources[routev3.RouteConfiguration](a, v3.RouteType, tables) {
			for _, host := range table.VirtualHosts {
				answer.Routes[host.Name] = routes(host)
			}
		}
	}
	names := []string{}
	for _, cluster := range resources[clusterv3.Cluster](a, v3.ClusterType, nil) {
		if cluster.GetType() == clusterv3.Cluster_EDS {
			names = append(names, cluster.Name)
		}
		for _, options := range cluster.TypedExtensionProtocolOptions {
			if strings.Contains(string(options.Value), "isthmus-upstream") {
				answer.Behind = append(answer.Behind, cluster.Name)
			}
		}
	}
	for _, name := range names {
		for _, found := range resources[endpointv3.ClusterLoadAssignment](a, v3.EndpointType, []string{name}) {
			answer.Endpoints[name] = addresses(found)
		}
	}
	slices.Sort(answer.Behind)
	slices.Sort(answer.Names)
	return answer
}

// resources asks for those of a type, on a stream of its own.
func resources[T any, P interface {
	*T
	proto.Message
}](a *asking, kind string, names []string) []P {
	metadata := model.NodeMetadata{
		ClusterID: cluster.ID(a.proxy.Cluster),
		Network:   network.ID(a.proxy.Network),
		Namespace: a.proxy.Namespace,
		Labels:    a.proxy.Labels,

		RequestedNetworkView: a.proxy.View,
	}
	stream := a.server.ConnectADS().WithID(a.proxy.ID).WithType(kind).WithMetadata(metadata)
	defer stream.Cleanup()
	response := stream.RequestResponseAck(a.fail, &discovery.DiscoveryRequest{ResourceNames: names})
	found := make([]P, 0, len(response.Resources))
	for _, resource := range response.Resources {
		one := P(new(T))
		a.must(resource.UnmarshalTo(one))
		found = append(found, one)
	}
	return found
}

// read notes where the plugins of a listener stand, its route tables and its server names.
func (a *asking) read(listener *listenerv3.Listener, answer *sent, slots map[string][]string, tables *[]string) {
	chains := listener.FilterChains
	if listener.DefaultFilterChain != nil {
		chains = append(chains, listener.DefaultFilterChain)
	}
	for _, chain := range chains {
		answer.Names = append(answer.Names, chain.GetFilterChainMatch().GetServerNames()...)
		found := []string{}
		for _, filter := range chain.Filters {
			if filter.GetConfigDiscovery() != nil {
				found = append(found, filter.Name)
			}
			manager := &hcm.HttpConnectionManager{}
			if !filter.GetTypedConfig().MessageIs(manager) {
				continue
			}
			a.must(filter.GetTypedConfig().UnmarshalTo(manager))
			for _, inner := range manager.HttpFilters {
				if inner.GetConfigDiscovery() != nil {
					found = append(found, inner.Name)
				}
			}
			if table := manager.GetRds(); table != nil {
				*tables = append(*tables, table.RouteConfigName)
			}
		}
		if len(found) > 0 {
			slots[listener.Name] = found
		}
	}
}

func (a *asking) configured(extension *corev3.TypedExtensionConfig) plugin {
	http, onTCP := &httpwasm.Wasm{}, &networkwasm.Wasm{}
	var config *wasm.PluginConfig
	if extension.TypedConfig.MessageIs(http) {
		a.must(extension.TypedConfig.UnmarshalTo(http))
		config = http.Config
	} else {
		a.must(extension.TypedConfig.UnmarshalTo(onTCP))
		config = onTCP.Config
	}
	value := &wrapperspb.StringValue{}
	a.must(config.Configuration.UnmarshalTo(value))
	return plugin{
		Name:          config.Name,
		RootID:        config.RootId,
		FailurePolicy: config.FailurePolicy.String(),
		File:          config.GetVmConfig().GetCode().GetLocal().GetFilename(),
		Configuration: value.Value,
	}
}

func routes(host *routev3.VirtualHost) []route {
	found := []route{}
	for _, one := range host.Routes {
		headers := map[string]string{}
		for _, header := range one.GetMatch().GetHeaders() {
			headers[header.Name] = header.GetStringMatch().GetExact()
		}
		found = append(found, route{Name: one.Name, Headers: headers, Cluster: one.GetRoute().GetCluster()})
	}
	return found
}

func addresses(of *endpointv3.ClusterLoadAssignment) [][]string {
	found := [][]string{}
	for _, locality := range of.Endpoints {
		for len(found) <= int(locality.Priority) {
			found = append(found, []string{})
		}
		for _, endpoint := range locality.LbEndpoints {
			address := endpoint.GetEndpoint().GetAddress().GetSocketAddress().GetAddress()
			found[locality.Priority] = append(found[locality.Priority], address)
		}
	}
	for _, tier := range found {
		slices.Sort(tier)
	}
	return found
}

func (a *asking) must(err error) {
	if err != nil {
		a.fail.Fatal(err)
	}
}
