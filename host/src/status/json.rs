//! The status of clusters for programs.

use std::collections::BTreeMap;

use policy::plan::Role;
use serde_json::{Value, json as value};
use time::OffsetDateTime;

use super::{Drift, Found, Judged, Rollout, Runs, Status, Told};
use crate::proxies::{Counts, Kind, Stamp};
use crate::rollout::State;

/// Everything that is known of them.
pub fn json(statuses: &[Status], now: OffsetDateTime) -> Value {
    let rollout = Rollout::of(statuses);
    let items: Vec<Value> = statuses.iter().map(|each| status(each, rollout.as_ref())).collect();
    let rollout = rollout.map(|rollout| rollout.json(now));
    value!({"apiVersion": policy::API_VERSION, "kind": "Status", "rollout": rollout, "items": items})
}

fn status(status: &Status, rollout: Option<&Rollout>) -> Value {
    let head = value!({
        "cluster": status.cluster.as_str(),
        "condition": status.condition().as_str(),
        "wanted": status.wanted,
    });
    let more = match &status.found {
        Ok(found) => of(found, &status.wanted, rollout),
        Err(why) => value!({"error": why}),
    };
    let mut fields = head.as_object().cloned().unwrap_or_default();
    fields.extend(more.as_object().cloned().unwrap_or_default());
    fields.into()
}

fn of(found: &Found, wanted: &str, rollout: Option<&Rollout>) -> Value {
    let named = |state: State| {
        let objects = found.standing.objects.iter().filter(move |object| object.state == state);
        objects.map(|object| object.name.as_str()).collect::<Vec<_>>()
    };
    let (running, proxies, why) = match (&found.proxies, found.running()) {
        (Ok(proxies), Ok((running, all))) => {
            let proxies = proxies.iter().map(|judged| proxy(judged, found.told.as_ref().ok())).collect();
            (value!({"wanted": running, "all": all}), proxies, Value::Null)
        }
        (Err(why), _) => (Value::Null, Value::Null, why.as_str().into()),
        (Ok(_), Err(why)) => (Value::Null, Value::Null, why.into()),
    };
    value!({
        "applied": found.standing.digest,
        "objects": {
            "asWanted": named(State::AsWanted),
            "differing": named(State::Differs),
            "missing": named(State::Missing),
            "unwanted": named(State::Unwanted),
        },
        "running": running,
        "proxies": proxies,
        "proxiesError": why,
        "drift": found.drifts(wanted).iter().map(drift).collect::<Vec<_>>(),
        "kubernetes": found.kubernetes,
        "istio": found.istio,
        "changed": found.changed.map(OffsetDateTime::unix_timestamp),
        "revision": found.told.as_ref().ok().map(|told| revision(told, rollout)),
        "revisionError": found.told.as_ref().err(),
    })
}

fn revision(told: &Told, rollout: Option<&Rollout>) -> Value {
    value!({
        "applied": told.applied,
        "recorded": told.chronicle.at(),
        "wanted": told.wanted,
        "rollout": rollout.and_then(|rollout| rollout.brings(&told.primary)),
        "kept": told.chronicle.kept.iter().map(|kept| kept.number).collect::<Vec<_>>(),
    })
}

fn drift(drift: &Drift) -> Value {
    let edits = drift.edits.iter();
    let edits = edits.map(|edit| value!({"manager": edit.manager, "fields": edit.fields, "time": edit.time}));
    value!({"object": drift.object, "edits": edits.collect::<Vec<_>>()})
}

fn proxy(Judged { proxy, runs }: &Judged, told: Option<&Told>) -> Value {
    let (word, why) = match runs {
        Runs::Wanted => ("Wanted", Value::Null),
        Runs::Other { applied: true, .. } => ("Applied", Value::Null),
        Runs::Other { applied: false, .. } => ("Other", Value::Null),
        Runs::Lacks(role) => ("Lacks", role.as_str().into()),
        Runs::Nothing => ("Nothing", Value::Null),
        Runs::Silent(why) => ("Silent", why.as_str().into()),
    };
    let revision = match runs {
        Runs::Other { stamp, .. } => told.and_then(|told| told.running.get(stamp)),
        Runs::Wanted | Runs::Lacks(_) | Runs::Nothing | Runs::Silent(_) => None,
    };
    let kind = match proxy.kind {
        Kind::Sidecar => "Sidecar",
        Kind::Gateway => "Gateway",
        Kind::EastWest => "EastWestGateway",
        Kind::Unknown => "Unknown",
    };
    let reading = proxy.said.as_ref().ok();
    let named = |plans: &BTreeMap<Role, Stamp>| {
        let plans = plans.iter();
        plans
            .map(|(role, stamp)| (role.as_str().to_owned(), stamp.to_string().into()))
            .collect::<serde_json::Map<_, Value>>()
    };
    value!({
        "name": proxy.name,
        "kind": kind,
        "runs": word,
        "why": why,
        "plans": reading.map(|reading| named(&reading.plans)),
        "trials": reading.map(|reading| named(&reading.trials)),
        "revision": revision,
        "counts": reading.map(|reading| counts(&reading.counts)),
    })
}

fn counts(counts: &Counts) -> Value {
    value!({
        "allowed": counts.allowed,
        "denied": counts.denied,
        "shadowDenied": counts.shadow_denied,
        "tried": counts.tried,
        "trialDenied": counts.trial_denied,
        "requests": counts.requests,
        "failed": counts.failed,
        "traps": counts.traps,
        "uptimeSeconds": counts.uptime,
    })
}
