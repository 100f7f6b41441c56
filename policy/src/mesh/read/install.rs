//! How Istio is installed, and by which names clusters call each other's services.

use std::net::IpAddr;

use super::{Draft, Gateway};
use crate::cidr::Cidr;
use crate::document::{Fields, Located};
use crate::finding::{Code, Finding};
use crate::mesh::{
    Dns, Exports, Extension, GATEWAY_PORT, GatewayService, GlobalNames, Installation, Installer,
    IstioVersion, OnFailure,
};
use crate::name::{ClusterName, Namespace, Port, is_dns_name};

/// What stands under `istio`.
#[derive(Default)]
pub(super) struct Istio {
    pub(super) root_namespace: Option<Namespace>,
    pub(super) on_failure: Option<OnFailure>,
    pub(super) installation: Installation,
}

pub(super) fn istio(mut istio: Fields<'_>) -> Istio {
    let root_namespace = istio.optional_value::<Namespace>("rootNamespace");
    let version = istio.optional_value::<IstioVersion>("version");
    let installers = [("istioctl", Installer::Istioctl), ("helm", Installer::Helm)];
    let installer = istio.optional_choice("installer", &installers);
    let gateway_api = istio.optional_value::<bool>("gatewayApi");
    let extension = istio.optional_value::<bool>("trafficExtension").filter(|said| said.value);
    let dns_proxy = istio.optional_value::<bool>("dnsProxy");
    let said = [OnFailure::Close, OnFailure::Open].map(|strategy| (strategy.as_str(), strategy));
    let on_failure = istio.optional_choice("failStrategy", &said);
    let version = version.map(|version| version.value);
    if let Some(extension) = &extension {
        let unread = unread(extension, version);
        istio.findings().extend(unread);
    }
    istio.close();
    Istio {
        root_namespace: root_namespace.map(|namespace| namespace.value),
        on_failure: on_failure.map(|on_failure| on_failure.value),
        installation: Installation {
            version,
            installer: installer.map(|installer| installer.value).unwrap_or_default(),
            gateway_api: gateway_api.is_some_and(|said| said.value),
            extension: extension.map_or(Extension::WasmPlugin, |_| Extension::TrafficExtension),
            dns_proxy: dns_proxy.is_some_and(|said| said.value),
            ..Installation::default()
        },
    }
}

/// An Istio that would not read what the filter comes as. One that is not said is taken to be the newest elsewhere, and not
/// here: under an older one every proxy would lose the filter.
fn unread(extension: &Located<bool>, version: Option<IstioVersion>) -> Option<Finding> {
    const FIRST: IstioVersion = IstioVersion { major: 1, minor: 30 };
    let message = match version {
        Some(version) if version >= FIRST => return None,
        Some(version) => {
            format!("Istio {version} reads no TrafficExtension: the filter would be in no proxy")
        }
        None => "trafficExtension without a version of Istio: before 1.30 the filter would be in no proxy"
            .to_owned(),
    };
    Some(Finding {
        at: extension.at.clone(),
        code: Code::UnreadExtension,
        message,
        hint: "leave it out, or say the version that every control plane has: version: \"1.30\" or later"
            .to_owned(),
    })
}

/// Takes `exports`.
pub(super) fn exports(spec: &mut Fields<'_>) -> Exports {
    let choices = [("All", Exports::All), ("Listed", Exports::Listed)];
    spec.optional_choice("exports", &choices).map(|exports| exports.value).unwrap_or_default()
}

/// Takes `clusterLocal`: hosts, and patterns of them as Istio writes them.
pub(super) fn cluster_local(spec: &mut Fields<'_>) -> Vec<String> {
    let hosts = spec.optional_values::<String>("clusterLocal").map(|hosts| hosts.value).unwrap_or_default();
    let is_host = |host: &str| host == "*" || is_dns_name(host.strip_prefix("*.").unwrap_or(host));
    let (good, bad): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|host| is_host(&host.value));
    spec.findings().extend(bad.into_iter().map(|host| {
        Finding {
            at: host.at,
            code: Code::BadValue,
            message: format!("clusterLocal: {:?} is not a host", host.value),
            hint:
                "write a host, such as web.shop.svc.cluster.local, or all below one: *.shop.svc.cluster.local"
                    .to_owned(),
        }
    }));
    good.into_iter().map(|host| host.value).collect()
}

/// Takes `global`; its place is that of the range, where one is said.
pub(super) fn global(spec: &mut Fields<'_>) -> Option<Located<GlobalNames>> {
    let mut global = spec.optional_fields("global")?;
    let at = global.at().clone();
    let range = global.optional_value::<Cidr>("range");
    let dns = [("Proxy", Dns::Proxy), ("CoreDns", Dns::CoreDns), ("KubeDns", Dns::KubeDns)];
    let dns = global.optional_choice("dns", &dns);
    let egress = global.optional_value::<bool>("egress");
    global.close();
    let at = range.as_ref().map_or(at, |range| range.at.clone());
    Some(Located {
        at,
        value: GlobalNames {
            range: range.map_or(GlobalNames::RANGE, |range| range.value),
            dns: dns.map(|dns| dns.value).unwrap_or_default(),
            egress: egress.is_some_and(|egress| egress.value),
        },
    })
}

/// Whose control plane a cluster uses, and where its own is found.
pub(super) fn control_plane(
    mut fields: Fields<'_>,
) -> (Option<Located<ClusterName>>, Option<Located<String>>) {
    let primary = fields.optional_value::<bool>("primary");
    let remote_of = fields.optional_value::<ClusterName>("remoteOf");
    let address = fields.optional_value::<String>("address");
    if let Some(primary) = primary.filter(|primary| primary.value == remote_of.is_some()) {
        let (message, hint) = if primary.value {
            ("a control plane is primary or remote, not both", "keep one of primary: true and remoteOf")
        } else {
            ("this cluster has no control plane", "say whose remote it is: remoteOf: CLUSTER")
        };
        fields.findings().push(Finding {
            at: primary.at,
            code: Code::NoControlPlane,
            message: message.to_owned(),
            hint: hint.to_owned(),
        });
    }
    if let (Some(_), Some(address)) = (&remote_of, &address) {
        fields.findings().push(Finding {
            at: address.at.clone(),
            code: Code::BadValue,
            message: "address: a remote runs no istiod that others could find".to_owned(),
            hint: "say it at its primary".to_owned(),
        });
    }
    fields.close();
    (remote_of, address)
}

/// Takes `gateway`.
pub(super) fn gateway(mut fields: Fields<'_>) -> Option<Located<Gateway>> {
    let address = fields.required_value::<String>("address");
    let port = fields.optional_value::<Port>("port");
    let services = [
        ("LoadBalancer", GatewayService::LoadBalancer),
        ("ExternalIP", GatewayService::ExternalIp),
        ("NodePort", GatewayService::NodePort),
    ];
    let service = fields.optional_choice("service", &services);
    fields.close();
    let Located { at, value: address } = address?;
    Some(Located {
        at,
        value: Gateway {
            address,
            port: port.map_or(GATEWAY_PORT, |port| port.value.number()),
            service: service.map(|service| service.value).unwrap_or_default(),
        },
    })
}

/// What is wrong with how Istio is installed, now that clusters and services are known.
pub(super) fn check(
    installation: &Installation,
    global: Option<&Located<GlobalNames>>,
    drafts: &[Draft],
    services: usize,
    findings: &mut Vec<Finding>,
) {
    for (draft, gateway) in drafts.iter().filter_map(|draft| Some((draft, draft.gateway.as_ref()?))) {
        findings.extend(gateway_service(installation, draft, gateway));
    }
    let Some(global) = global else { return };
    findings.extend(range(global, drafts, services));
    if global.value.dns == Dns::KubeDns {
        let deaf = |draft: &&Draft| draft.cluster.whereabouts.dns_server.is_none();
        findings.extend(drafts.iter().filter(deaf).map(|draft| {
            Finding {
                at: draft.name.at.clone(),
                code: Code::MissingKey,
                message: format!(
                    "kube-dns of {} is not told whom to ask for .global names",
                    draft.name.value
                ),
                hint: "say dnsServer: an address of the cluster's Services that none has, such as 10.96.0.53"
                    .to_owned(),
            }
        }));
    }
}

/// A Service that cannot have the address or the port that is said.
fn gateway_service(
    installation: &Installation,
    draft: &Draft,
    gateway: &Located<Gateway>,
) -> Option<Finding> {
    let Gateway { address, port, service } = &gateway.value;
    let name = &draft.name.value;
    let (message, hint) = match service {
        GatewayService::ExternalIp if installation.gateway_api => (
            format!("the gateway of {name} cannot have an external IP: istiod makes its Service"),
            "let a load balancer give it an address, or leave gatewayApi out",
        ),
        GatewayService::ExternalIp if address.parse::<IpAddr>().is_err() => (
            format!("the gateway of {name} cannot have {address:?} for an external IP"),
            "write the address itself",
        ),
        GatewayService::NodePort if !(30000..=32767).contains(port) => (
            format!("the gateway of {name} cannot have {port} for its node port"),
            "write the port that its nodes listen on, from 30000 to 32767",
        ),
        GatewayService::LoadBalancer | GatewayService::ExternalIp | GatewayService::NodePort => return None,
    };
    Some(Finding { at: gateway.at.clone(), code: Code::BadValue, message, hint: hint.to_owned() })
}

/// A range that has not an address for every service, or in which none would lead to the sidecar.
fn range(global: &Located<GlobalNames>, drafts: &[Draft], services: usize) -> Option<Finding> {
    let names = &global.value;
    let range = names.range;
    let overlap =
        drafts.iter().find(|draft| draft.pod_cidr.as_ref().is_some_and(|pods| pods.value.overlaps(range)));
    let (code, message, hint) = if names.room() == 0 {
        (Code::BadValue, format!("range: no name can have an address of {range}"), ROOMY.to_owned())
    } else if (names.room() as usize) < services {
        (
            Code::BadValue,
            format!("range: {range} has {} addresses for {services} services", names.room()),
            ROOMY.to_owned(),
        )
    } else if let Some(draft) = overlap {
        (
            Code::BadValue,
            format!("range: {range} has addresses of {}'s pods", draft.name.value),
            "a name would lead to a pod: take addresses that nothing has, such as 240.0.0.0/16".to_owned(),
        )
    } else if GlobalNames::GIVEN_BY_ISTIOD.overlaps(range) {
        (
            Code::BadValue,
            format!("range: from {range} istiod gives addresses to names that have none"),
            "two names would have one address: take others, such as 240.0.0.0/16".to_owned(),
        )
    } else if names.range.overlaps(GlobalNames::LOOPBACK) {
        (
            Code::UnreachableAddress,
            format!("range: what goes to {range} never leaves for a sidecar: the kernel keeps it on the loopback device, which Istio's iptables pass over"),
            "take 240.0.0.0/16, which nothing routes and sidecars see; or have your own rules lead these addresses to port 15001".to_owned(),
        )
    } else {
        return None;
    };
    Some(Finding { at: global.at.clone(), code, message, hint })
}

const ROOMY: &str = "take a wider range of IPv4 addresses, such as 240.0.0.0/16";
