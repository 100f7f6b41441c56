// The errand in C++, on wasi-libc and libc++, by the ABI itself: see ../README.md.

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>

#define IMPORT(name) extern "C" __attribute__((import_module("env"), import_name(#name))) uint32_t name
#define EXPORT(name) extern "C" __attribute__((export_name(#name)))

IMPORT(proxy_log)(uint32_t level, const char* text, size_t length);
IMPORT(proxy_get_buffer_bytes)(uint32_t buffer, uint32_t start, uint32_t most, char** bytes, size_t* length);
IMPORT(proxy_set_buffer_bytes)(uint32_t buffer, uint32_t start, uint32_t length, const char* bytes, size_t size);
IMPORT(proxy_get_property)(const char* path, size_t length, char** value, size_t* size);
IMPORT(proxy_get_header_map_value)(uint32_t map, const char* name, size_t length, char** value, size_t* size);
IMPORT(proxy_add_header_map_value)(uint32_t map, const char* name, size_t length, const char* value, size_t size);
IMPORT(proxy_define_metric)(uint32_t kind, const char* name, size_t length, uint32_t* id);
IMPORT(proxy_increment_metric)(uint32_t id, int64_t by);
IMPORT(proxy_get_metric)(uint32_t id, uint64_t* value);
IMPORT(proxy_set_shared_data)(const char* key, size_t length, const char* value, size_t size, uint32_t cas);
IMPORT(proxy_get_shared_data)(const char* key, size_t length, char** value, size_t* size, uint32_t* cas);
IMPORT(proxy_http_call)(const char* cluster, size_t cluster_size, const char* pairs, size_t pairs_size, const char* body,
                        size_t body_size, const char* trailers, size_t trailers_size, uint32_t timeout, uint32_t* token);
IMPORT(proxy_send_local_response)(uint32_t status, const char* details, size_t details_size, const char* body,
                                  size_t body_size, const char* pairs, size_t pairs_size, int32_t grpc_status);
IMPORT(proxy_set_effective_context)(uint32_t context);
IMPORT(proxy_continue_stream)(uint32_t stream);

namespace {

constexpr uint32_t kRequest = 0, kResponse = 2, kAnswer = 6;
constexpr uint32_t kRequestBody = 0, kAnswerBody = 4, kConfiguration = 7;

// The contexts that wait for an answer, by the token of the call.
std::map<uint32_t, uint32_t> waiting;
uint32_t calls = 0;

void say(const std::string& text) { proxy_log(2, text.data(), text.size()); }

// What the host has put into memory of our allocator.
std::string taken(char* bytes, size_t size) {
  std::string text(bytes, size);
  free(bytes);
  return text;
}

std::string buffer(uint32_t which) {
  char* bytes = nullptr;
  size_t size = 0;
  proxy_get_buffer_bytes(which, 0, UINT32_MAX, &bytes, &size);
  return taken(bytes, size);
}

std::string header(uint32_t map, const std::string& name) {
  char* value = nullptr;
  size_t size = 0;
  proxy_get_header_map_value(map, name.data(), name.size(), &value, &size);
  return taken(value, size);
}

std::string property(const std::string& path) {
  char* value = nullptr;
  size_t size = 0;
  proxy_get_property(path.data(), path.size(), &value, &size);
  return taken(value, size);
}

void add(uint32_t map, const std::string& name, const std::string& value) {
  proxy_add_header_map_value(map, name.data(), name.size(), value.data(), value.size());
}

using Pairs = std::map<std::string, std::string>;

std::string encoded(const Pairs& pairs) {
  auto number = [](size_t of) {
    uint32_t value = of;
    return std::string(reinterpret_cast<char*>(&value), 4);
  };
  std::string sizes = number(pairs.size()), texts;
  for (const auto& [name, value] : pairs) {
    sizes += number(name.size()) + number(value.size());
    texts += name + '\0' + value + '\0';
  }
  return sizes + texts;
}

void count() {
  uint64_t value = 0;
  proxy_increment_metric(calls, 1);
  proxy_get_metric(calls, &value);
  say("counted: " + std::to_string(value));
}

void share(const std::string& path) {
  const std::string key = "last";
  char* value = nullptr;
  size_t size = 0;
  uint32_t cas = 0;
  proxy_get_shared_data(key.data(), key.size(), &value, &size, &cas);
  say("shared: " + taken(value, size));
  proxy_set_shared_data(key.data(), key.size(), path.data(), path.size(), cas);
}

}  // namespace

EXPORT(proxy_abi_version_0_2_1) void proxy_abi_version_0_2_1() {}

EXPORT(proxy_on_memory_allocate) void* proxy_on_memory_allocate(size_t size) { return malloc(size); }

EXPORT(proxy_on_context_create) void proxy_on_context_create(uint32_t, uint32_t) {}

EXPORT(proxy_on_vm_start) uint32_t proxy_on_vm_start(uint32_t, uint32_t) {
  const std::string name = property("plugin_name") + ".calls";
  proxy_define_metric(0, name.data(), name.size(), &calls);
  return 1;
}

EXPORT(proxy_on_configure) uint32_t proxy_on_configure(uint32_t, uint32_t) {
  say("configured: " + buffer(kConfiguration));
  // What the clock says is not the same in a sandbox; that it can be asked is.
  return std::chrono::system_clock::now().time_since_epoch().count() >= 0;
}

EXPORT(proxy_on_request_headers) uint32_t proxy_on_request_headers(uint32_t context, uint32_t, uint32_t) {
  const std::string path = header(kRequest, ":path");
  say("request: " + path + " from " + property(std::string("source\0address", 14)));
  add(kRequest, "x-filter", "errand");
  count();
  share(path);
  if (path == "/no") {
    const std::string body = "not today\n", headers = encoded({{"x-why", "errand"}});
    proxy_send_local_response(403, nullptr, 0, body.data(), body.size(), headers.data(), headers.size(), -1);
    return 1;
  }
  if (path == "/ask") {
    const std::string cluster = property("plugin_name");
    const std::string pairs = encoded({{":authority", "auth"}, {":method", "GET"}, {":path", "/check"}});
    uint32_t token = 0;
    if (proxy_http_call(cluster.data(), cluster.size(), pairs.data(), pairs.size(), nullptr, 0, nullptr, 0, 5000, &token) == 0) {
      waiting[token] = context;
      return 1;
    }
  }
  if (path == "/trap") {
    abort();
  }
  return 0;
}

EXPORT(proxy_on_http_call_response)
void proxy_on_http_call_response(uint32_t, uint32_t token, uint32_t, uint32_t, uint32_t) {
  const std::string answer = header(kAnswer, ":status") + " " + buffer(kAnswerBody);
  proxy_set_effective_context(waiting[token]);
  say("answered: " + answer);
  add(kRequest, "x-answer", answer);
  proxy_continue_stream(0);
}

EXPORT(proxy_on_request_body) uint32_t proxy_on_request_body(uint32_t, uint32_t size, uint32_t end) {
  if (end == 0) return 1;
  std::string body = buffer(kRequestBody);
  say("body: " + body);
  body += ", carried";
  proxy_set_buffer_bytes(kRequestBody, 0, size, body.data(), body.size());
  return 0;
}

EXPORT(proxy_on_response_headers) uint32_t proxy_on_response_headers(uint32_t, uint32_t, uint32_t) {
  say("response: " + header(kResponse, ":status"));
  add(kResponse, "x-filter", "errand");
  return 0;
}

EXPORT(proxy_on_log) void proxy_on_log(uint32_t) { say("end"); }
