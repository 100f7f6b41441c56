// The errand in AssemblyScript, with the SDK: see ../../README.md. The SDK speaks ABI 0.2.0, cannot write a body, and its
// readers of metrics and of shared data do not.

export * from "@solo-io/proxy-runtime/proxy";
import {
  Context, Counter, FilterDataStatusValues, FilterHeadersStatusValues, GrpcStatusValues, HeaderPair, log,
  LogLevelValues, registerRootContext, RootContext, send_local_response, stream_context,
} from "@solo-io/proxy-runtime";
import { BufferTypeValues, get_buffer_bytes, get_property } from "@solo-io/proxy-runtime/runtime";

function say(text: string): void {
  log(LogLevelValues.info, text);
}

function pair(name: string, value: string): HeaderPair {
  return new HeaderPair(String.UTF8.encode(name), String.UTF8.encode(value));
}

class Root extends RootContext {
  calls: Counter = new Counter(String.UTF8.decode(get_property("plugin_name")) + ".calls");

  onConfigure(size: u32): bool {
    say("configured: " + String.UTF8.decode(get_buffer_bytes(BufferTypeValues.PluginConfiguration, 0, size)));
    return true;
  }

  createContext(context_id: u32): Context {
    return new Stream(context_id, this);
  }
}

class Stream extends Context {
  constructor(context_id: u32, root: Root) {
    super(context_id, root);
  }

  onRequestHeaders(count: u32, end: bool): FilterHeadersStatusValues {
    const path = stream_context.headers.request.get(":path");
    say("request: " + path + " from " + String.UTF8.decode(get_property("source\0address")));
    stream_context.headers.request.add("x-filter", "errand");
    (this.root_context as Root).calls.increment(1);
    if (path == "/no") {
      send_local_response(403, "", String.UTF8.encode("not today\n"), [pair("x-why", "errand")], GrpcStatusValues.Unknown);
      return FilterHeadersStatusValues.StopIteration;
    }
    if (path == "/ask") {
      const cluster = String.UTF8.decode(get_property("plugin_name"));
      const headers = [pair(":authority", "auth"), pair(":method", "GET"), pair(":path", "/check")];
      this.root_context.httpCall(cluster, headers, new ArrayBuffer(0), [], 5000, this,
        (origin: Context, headers: u32, size: usize, trailers: u32): void => {
          const status = stream_context.headers.http_callback.get(":status");
          const answer = status + " " + String.UTF8.decode(get_buffer_bytes(BufferTypeValues.HttpCallResponseBody, 0, size as u32));
          say("answered: " + answer);
          stream_context.headers.request.add("x-answer", answer);
          origin.continueRequest();
        });
      return FilterHeadersStatusValues.StopIteration;
    }
    if (path == "/trap") {
      throw new Error("as told");
    }
    return FilterHeadersStatusValues.Continue;
  }

  onRequestBody(size: usize, end: bool): FilterDataStatusValues {
    if (!end) {
      return FilterDataStatusValues.StopIterationAndBuffer;
    }
    say("body: " + String.UTF8.decode(get_buffer_bytes(BufferTypeValues.HttpRequestBody, 0, size as u32)));
    return FilterDataStatusValues.Continue;
  }

  onResponseHeaders(count: u32, end: bool): FilterHeadersStatusValues {
    say("response: " + stream_context.headers.response.get(":status"));
    stream_context.headers.response.add("x-filter", "errand");
    return FilterHeadersStatusValues.Continue;
  }

  onLog(): void {
    say("end");
  }
}

registerRootContext((context_id: u32): RootContext => new Root(context_id), "root");
