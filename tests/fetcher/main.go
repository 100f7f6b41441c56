// Fetcher is Istio's own fetcher as a judge: what pilot-agent does with the URL and the digest of a WasmPlugin; and
// what go-containerregistry, with which it does that, says of images.
//
//	fetcher get URL SHA256 [SECRET]    prints the SHA-256 of the module that a proxy would get; SECRET is a file
//	fetcher image REFERENCE            whether all that an image says of itself is so
//	fetcher names                      which registry, repository and version each line names, or no
//	fetcher layout DIR                 the same of every image in an OCI image layout, with their digests
package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/wasm"
)

func main() {
	options := log.DefaultOptions()
	options.OutputPaths = []string{"stderr"}
	if err := log.Configure(options); err != nil {
		panic(err)
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) >= 3 && args[0] == "get":
		return get(args[1], args[2], args[3:])
	case len(args) == 2 && args[0] == "image":
		reference, err := name.ParseReference(args[1])
		if err != nil {
			return err
		}
		image, err := remote.Image(reference)
		if err != nil {
			return err
		}
		return judge(image)
	case len(args) == 1 && args[0] == "names":
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			reference, err := name.ParseReference(lines.Text())
			if err != nil {
				fmt.Println("no")
				continue
			}
			repository := reference.Context()
			fmt.Println(repository.RegistryStr(), repository.RepositoryStr(), reference.Identifier())
		}
		return nil
	case len(args) == 2 && args[0] == "layout":
		return everyImage(args[1])
	}
	return fmt.Errorf("not so: %v", args)
}

func get(url, digest string, secret []string) error {
	options := wasm.GetOptions{
		Checksum:        digest,
		ResourceName:    "istio-system.isthmus-inbound",
		ResourceVersion: "1",
		RequestTimeout:  30 * time.Second,
		PullPolicy:      wasm.IfNotPresent,
	}
	if len(secret) == 1 {
		text, err := os.ReadFile(secret[0])
		if err != nil {
			return err
		}
		options.PullSecret = text
	}
	dir, err := os.MkdirTemp("", "fetcher")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cache := wasm.NewLocalFileCache(dir, wasm.Options{
		PurgeInterval:         time.Hour,
		ModuleExpiry:          time.Hour,
		HTTPRequestTimeout:    15 * time.Second,
		HTTPRequestMaxRetries: 1,
	})
	defer cache.Cleanup()
	path, err := cache.Get(url, options)
	if err != nil {
		return err
	}
	module, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fmt.Printf("%x\n", sha256.Sum256(module))
	return nil
}

func everyImage(dir string) error {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return err
	}
	if err := validate.Index(index); err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, descriptor := range manifest.Manifests {
		image, err := index.Image(descriptor.Digest)
		if err != nil {
			return err
		}
		if err := judge(image); err != nil {
			return err
		}
	}
	return nil
}

// judge reads every blob and compares what manifest and config say of it.
func judge(image v1.Image) error {
	if err := validate.Image(image); err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	fmt.Println(digest)
	return nil
}
