//! What runs for the proof.

use std::net::{IpAddr, SocketAddr};

use policy::name::ClusterName;
use serde_json::{Value, json};

use super::{LOST, NAMESPACE, What};
use crate::kube::{Id, Kind};

/// The service, and the Deployment behind it.
pub(super) const SERVICE: &str = "helloworld";

/// The pod that calls it, and its container.
pub(super) const CALLER: &str = "caller";

/// The pod that tries the addresses of others, and its container.
pub(super) const NEIGHBOUR: &str = "neighbour";

/// The port that the service's pods listen on.
pub(super) const PORT: u16 = 5000;

pub(super) fn id(version: &str, kind: &str, name: &str) -> Id {
    Id { kind: Kind::new(version, kind), namespace: Some(NAMESPACE.to_owned()), name: name.to_owned() }
}

pub(super) fn namespace_id() -> Id {
    Id { kind: Kind::new("v1", "Namespace"), namespace: None, name: NAMESPACE.to_owned() }
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/managed-by": "isthmus"}})
}

/// The service of a cluster: it answers with the cluster's name as its version.
pub(super) fn service(cluster: &ClusterName, image: &str) -> [Value; 3] {
    let labels = json!({"app": SERVICE});
    let container = json!({
        "name": SERVICE,
        "image": image,
        "env": [{"name": "SERVICE_VERSION", "value": cluster.as_str()}],
        "ports": [{"containerPort": PORT}],
    });
    let namespace = json!({"app.kubernetes.io/managed-by": "isthmus", "istio-injection": "enabled"});
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": namespace}}),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(SERVICE),
            "spec": {"selector": labels, "ports": [{"name": "http", "port": PORT}]},
        }),
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata(SERVICE),
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }),
    ]
}

/// A pod that calls the service, and leaves as its last words which version answered how often. Its container ends whether
/// its sidecar does or not.
pub(super) fn caller(cluster: &ClusterName, what: &What) -> Value {
    let requests = what.requests;
    let script = format!(
        "tries=0; until curl -fs -m 2 -o /dev/null http://localhost:15021/healthz/ready || [ $tries -ge 60 ]; do\n  \
         tries=$((tries + 1)); sleep 1\ndone\n\
         n=0; while [ $n -lt {requests} ]; do\n  n=$((n + 1))\n  \
         curl -s -m 5 http://{SERVICE}.{NAMESPACE}:{PORT}/hello | sed -n 's/.*version: \\([^,]*\\),.*/\\1/p' | grep . || echo {LOST}\n\
         done | sort | uniq -c > /dev/termination-log\n"
    );
    let container = json!({"name": CALLER, "image": what.caller, "command": ["sh", "-c", script]});
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(CALLER),
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]},
    });
    if let Some(fields) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        fields.insert("annotations".to_owned(), json!({"isthmus.dev/calls-from": cluster.as_str()}));
    }
    pod
}

/// A pod without a sidecar that tries all these addresses at once, and leaves a line of each as its last words.
pub(super) fn neighbour(image: &str, targets: &[(ClusterName, IpAddr)]) -> Value {
    let target = |(to, address): &(ClusterName, IpAddr)| format!("{to}={}", SocketAddr::new(*address, PORT));
    let targets = targets.iter().map(target).collect::<Vec<_>>().join(" ");
    let script = format!(
        "{{ for to in {targets}; do (\n  \
         said=$(curl -s --connect-timeout 5 -m 10 -w '\\n%{{time_connect}} %{{errormsg}}' http://${{to#*=}}/hello); code=$?\n  \
         version=$(echo \"$said\" | sed -n 's/.*version: \\([^,]*\\),.*/\\1/p')\n  \
         ended=$(echo \"$said\" | tail -n 1 | cut -c 1-120)\n  \
         echo \"${{to%%=*}} $code ${{ended%% *}} ${{version:--}} ${{ended#* }}\"\n\
         ) & done; wait; }} > /dev/termination-log\n"
    );
    let container = json!({"name": NEIGHBOUR, "image": image, "command": ["sh", "-c", script]});
    let mut metadata = metadata(NEIGHBOUR);
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        labels.insert("sidecar.istio.io/inject".to_owned(), json!("false"));
    }
    let spec =
        json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::super::Came;
    use super::*;

    /// What the caller says last, where this is what curl does each time.
    fn counted(curl: &str) -> String {
        let what = What {
            service: String::new(),
            caller: "curl".to_owned(),
            requests: 4,
            patience: std::time::Duration::ZERO,
            parallel: 1,
        };
        let pod = caller(&"eu-1".parse().unwrap(), &what);
        let script = pod.pointer("/spec/containers/0/command/2").and_then(Value::as_str).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (file, program) = (directory.path().join("log"), directory.path().join("curl"));
        std::fs::write(&program, format!("#!/bin/sh\ncd {}\n{curl}\n", directory.path().display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
        let script = script.replace("/dev/termination-log", file.to_str().unwrap());
        let ended = Command::new("sh").args(["-c", &script]).env("PATH", path).status().unwrap();
        assert!(ended.success());
        std::fs::read_to_string(file).unwrap()
    }

    #[test]
    fn the_caller_counts_who_answers_and_how_often_nobody_does() {
        let by_turns = "case \"$*\" in *healthz*) exit 0;; esac\n\
                        echo x >> asked; n=$(wc -l < asked)\n\
                        case $n in 1) exit 28;; 2) v=eu-2;; *) v=eu-1;; esac\n\
                        echo \"Hello version: $v, instance: helloworld-7f9\"";
        let counted = super::super::counts(&counted(by_turns));
        let wanted = [("-", 1), ("eu-1", 2), ("eu-2", 1)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!(counted, wanted.into());
    }

    /// A pod of the service: it answers with its version until the test ends.
    fn serve(address: &str, version: &'static str) {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind((address, PORT)).unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _request = stream.read(&mut [0; 1024]);
                let body = format!("Hello version: {version}, instance: helloworld-7f9\n");
                let _gone = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            }
        });
    }

    #[test]
    fn the_neighbour_tells_who_takes_a_connection_and_who_answers_in_the_place_of_another() {
        serve("127.77.0.2", "eu-2");
        serve("127.77.0.4", "us-1");
        let targets = ["eu-2=127.77.0.2", "eu-3=127.77.0.3", "eu-4=127.77.0.4"].map(|target| {
            let (name, address) = target.split_once('=').unwrap();
            (name.parse().unwrap(), address.parse().unwrap())
        });
        let pod = neighbour("curl", &targets);
        let script = pod.pointer("/spec/containers/0/command/2").and_then(Value::as_str).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("log");
        let script = script.replace("/dev/termination-log", file.to_str().unwrap());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
        let told = std::fs::read_to_string(file).unwrap();
        let of = |name: &str| super::super::reach::came(&name.parse().unwrap(), &told);
        assert_eq!(of("eu-2"), Came::Reached, "{told}");
        assert_eq!(of("eu-4"), Came::Stranger("us-1".to_owned()), "{told}");
        let Came::Lost(why) = of("eu-3") else { panic!("{told}") };
        assert!(why.contains("127.77.0.3 port 5000"), "{why}");
        assert_eq!(pod.pointer("/metadata/labels/sidecar.istio.io~1inject"), Some(&json!("false")));
    }
}
