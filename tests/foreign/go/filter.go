// The errand in Go, by the ABI itself: see ../README.md.
package main

import (
	"encoding/binary"
	"strconv"
	"time"
	"unsafe"
)

//go:wasmimport env proxy_log
func hostLog(level uint32, text unsafe.Pointer, size uint32) uint32

//go:wasmimport env proxy_get_buffer_bytes
func hostBuffer(buffer, start, most uint32, bytes, size unsafe.Pointer) uint32

//go:wasmimport env proxy_set_buffer_bytes
func hostSetBuffer(buffer, start, length uint32, bytes unsafe.Pointer, size uint32) uint32

//go:wasmimport env proxy_get_property
func hostProperty(path unsafe.Pointer, length uint32, value, size unsafe.Pointer) uint32

//go:wasmimport env proxy_get_header_map_value
func hostHeader(of uint32, name unsafe.Pointer, length uint32, value, size unsafe.Pointer) uint32

//go:wasmimport env proxy_add_header_map_value
func hostAdd(to uint32, name unsafe.Pointer, length uint32, value unsafe.Pointer, size uint32) uint32

//go:wasmimport env proxy_define_metric
func hostDefine(kind uint32, name unsafe.Pointer, length uint32, id unsafe.Pointer) uint32

//go:wasmimport env proxy_increment_metric
func hostIncrement(id uint32, by int64) uint32

//go:wasmimport env proxy_get_metric
func hostMetric(id uint32, value unsafe.Pointer) uint32

//go:wasmimport env proxy_get_shared_data
func hostShared(key unsafe.Pointer, length uint32, value, size, cas unsafe.Pointer) uint32

//go:wasmimport env proxy_set_shared_data
func hostShare(key unsafe.Pointer, length uint32, value unsafe.Pointer, size, cas uint32) uint32

//go:wasmimport env proxy_http_call
func hostCall(cluster unsafe.Pointer, clusterSize uint32, pairs unsafe.Pointer, pairsSize uint32, body unsafe.Pointer,
	bodySize uint32, trailers unsafe.Pointer, trailersSize, timeout uint32, token unsafe.Pointer) uint32

//go:wasmimport env proxy_send_local_response
func hostReply(status uint32, details unsafe.Pointer, detailsSize uint32, body unsafe.Pointer, bodySize uint32,
	pairs unsafe.Pointer, pairsSize uint32, grpcStatus int32) uint32

//go:wasmimport env proxy_set_effective_context
func hostActFor(context uint32) uint32

//go:wasmimport env proxy_continue_stream
func hostContinue(stream uint32) uint32

const (
	request, response, answer                     = 0, 2, 6
	requestBody, answerBody, configuration        = 0, 4, 7
	goOn, pause                            uint32 = 0, 1
)

var (
	// What the host has asked memory for and nobody has taken: the collector must leave it.
	given = map[unsafe.Pointer][]byte{}
	// The contexts that wait for an answer, by the token of the call.
	waiting = map[uint32]uint32{}
	calls   uint32
)

func main() {}

func at(text string) unsafe.Pointer { return unsafe.Pointer(unsafe.StringData(text)) }

func size(text string) uint32 { return uint32(len(text)) }

func say(text string) { hostLog(2, at(text), size(text)) }

// What a hostcall gives, in memory of our allocator.
func taken(ask func(bytes, size unsafe.Pointer)) string {
	var bytes, length uint32
	ask(unsafe.Pointer(&bytes), unsafe.Pointer(&length))
	if length == 0 {
		return ""
	}
	for place, held := range given {
		if uint32(uintptr(place)) == bytes {
			delete(given, place)
			return string(held[:length])
		}
	}
	panic("the host gave what it had not asked for")
}

func buffer(which uint32) string {
	return taken(func(bytes, size unsafe.Pointer) { hostBuffer(which, 0, 1<<31, bytes, size) })
}

func header(of uint32, name string) string {
	return taken(func(value, length unsafe.Pointer) { hostHeader(of, at(name), size(name), value, length) })
}

func property(path string) string {
	return taken(func(value, length unsafe.Pointer) { hostProperty(at(path), size(path), value, length) })
}

func add(to uint32, name, value string) { hostAdd(to, at(name), size(name), at(value), size(value)) }

func encoded(pairs ...[2]string) string {
	sizes := binary.LittleEndian.AppendUint32(nil, uint32(len(pairs)))
	var texts []byte
	for _, pair := range pairs {
		for _, text := range pair {
			sizes = binary.LittleEndian.AppendUint32(sizes, size(text))
			texts = append(append(texts, text...), 0)
		}
	}
	return string(append(sizes, texts...))
}

func count() {
	var value uint64
	hostIncrement(calls, 1)
	hostMetric(calls, unsafe.Pointer(&value))
	say("counted: " + strconv.FormatUint(value, 10))
}

func share(path string) {
	key := "last"
	var cas uint32
	last := taken(func(value, length unsafe.Pointer) {
		hostShared(at(key), size(key), value, length, unsafe.Pointer(&cas))
	})
	say("shared: " + last)
	hostShare(at(key), size(key), at(path), size(path), cas)
}

//go:wasmexport proxy_abi_version_0_2_1
func version() {}

//go:wasmexport proxy_on_memory_allocate
func allocate(size uint32) unsafe.Pointer {
	bytes := make([]byte, size)
	place := unsafe.Pointer(unsafe.SliceData(bytes))
	given[place] = bytes
	return place
}

//go:wasmexport proxy_on_context_create
func onContextCreate(context, parent uint32) {}

//go:wasmexport proxy_on_vm_start
func onVMStart(root, length uint32) uint32 {
	name := property("plugin_name") + ".calls"
	hostDefine(0, at(name), size(name), unsafe.Pointer(&calls))
	return 1
}

//go:wasmexport proxy_on_configure
func onConfigure(root, length uint32) uint32 {
	say("configured: " + buffer(configuration))
	// What the clock says is not the same in a sandbox; that it can be asked is.
	if time.Now().Unix() < 0 {
		return 0
	}
	return 1
}

//go:wasmexport proxy_on_request_headers
func onRequestHeaders(context, count_, end uint32) uint32 {
	path := header(request, ":path")
	say("request: " + path + " from " + property("source\x00address"))
	add(request, "x-filter", "errand")
	count()
	share(path)
	switch path {
	case "/no":
		body, headers := "not today\n", encoded([2]string{"x-why", "errand"})
		hostReply(403, nil, 0, at(body), size(body), at(headers), size(headers), -1)
		return pause
	case "/ask":
		cluster := property("plugin_name")
		pairs := encoded([2]string{":authority", "auth"}, [2]string{":method", "GET"}, [2]string{":path", "/check"})
		var token uint32
		if hostCall(at(cluster), size(cluster), at(pairs), size(pairs), nil, 0, nil, 0, 5000, unsafe.Pointer(&token)) == 0 {
			waiting[token] = context
			return pause
		}
	case "/trap":
		panic("as told")
	}
	return goOn
}

//go:wasmexport proxy_on_http_call_response
func onHTTPCallResponse(root, token, headers, body, trailers uint32) {
	told := header(answer, ":status") + " " + buffer(answerBody)
	hostActFor(waiting[token])
	say("answered: " + told)
	add(request, "x-answer", told)
	hostContinue(0)
}

//go:wasmexport proxy_on_request_body
func onRequestBody(context, length, end uint32) uint32 {
	if end == 0 {
		return pause
	}
	body := buffer(requestBody)
	say("body: " + body)
	body += ", carried"
	hostSetBuffer(requestBody, 0, length, at(body), size(body))
	return goOn
}

//go:wasmexport proxy_on_response_headers
func onResponseHeaders(context, count_, end uint32) uint32 {
	say("response: " + header(response, ":status"))
	add(response, "x-filter", "errand")
	return goOn
}

//go:wasmexport proxy_on_log
func onLog(context uint32) { say("end") }
