//! The east-west gateway, where connections pass and nothing is proven.

use std::net::{IpAddr, SocketAddr};

use policy::evaluate;
use policy::name::Service;
use policy::plan::GatewayPlan;

use super::act::{Next, tell};
use super::trying;
use crate::host::{Host, Level};
use crate::seen::text;
use crate::settings::Settings;
use crate::tell::Ends;

pub(super) fn connection(settings: &Settings, plan: &GatewayPlan, host: &impl Host) -> Next {
    let tried = trying::at_gateway(settings);
    if !plan.limits_exposure() && tried.is_none() {
        return Next::Continue;
    }
    let sni = host.property("connection\0requested_server_name").and_then(text).unwrap_or_default();
    let Ok((service, port)) = Service::from_sni(sni) else { return Next::Continue };
    let asks_address = plan.limits_networks() || tried.is_some_and(GatewayPlan::limits_networks);
    let address = if asks_address { address(host) } else { None };
    let judgement = evaluate::gateway(plan, &service, Some(port.number()), address);
    let source = address.and_then(|address| plan.network_of(address));
    let ends = Ends { source: None, destination: Some(settings.home.cluster.as_str()) };
    if let Some(tried) = tried {
        let tried = evaluate::gateway(tried, &service, Some(port.number()), address).verdict;
        trying::tell(settings, host, ends, (&judgement.verdict, &tried));
    }
    if !plan.limits_exposure() {
        return Next::Continue;
    }
    let told = tell(settings, host, ends, &judgement);
    if judgement.verdict.is_allow() {
        return Next::Continue;
    }
    settings.teller.line(host, Level::Info, || {
        let from = address.or_else(|| self::address(host));
        let from = from.map_or_else(|| "nowhere known".to_owned(), |address| address.to_string());
        let network = source.map_or("no network that is known", |network| network.as_str());
        format!("closed: {service}:{} from {from}, of {network}: {}", port.number(), told.reason)
    });
    host.close();
    Next::Stop
}

fn address(host: &impl Host) -> Option<IpAddr> {
    let address = host.property("source\0address").and_then(text)?;
    address.parse().map(|address: SocketAddr| address.ip()).ok()
}
