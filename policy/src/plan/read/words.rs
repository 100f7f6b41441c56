//! What stands in a plan as a text.

use std::fmt::Display;
use std::str::FromStr;

use super::{FromPlan, FromText, Reader};
use crate::cidr::Cidr;
use crate::key::PublicKey;
use crate::mesh::IssuerName;
use crate::name::{
    Blank, ClusterName, CookieName, HeaderName, KeyId, Namespace, NetworkName, RegionName, TrustDomain,
};
use crate::plan::Role;
use crate::plan::json::Json;
use crate::rule::{Boundary, Demand, HashOn, Judged, Scope};

impl Blank for String {
    const BLANK: Self = Self::new();
}

impl FromText for String {
    fn take(&mut self, text: &str, _reader: &mut Reader<'_>) {
        text.clone_into(self);
    }
}

/// A text that is read by the type's own reader.
pub(in crate::plan) fn parsed<T: FromStr<Err: Display>>(text: &str, reader: &mut Reader<'_>) -> Option<T> {
    text.parse().map_err(|error: T::Err| reader.wrong(&error)).ok()
}

macro_rules! texts {
    ($($name:ident)*) => {$(
        impl $crate::plan::read::FromText for $name {
            fn take(&mut self, text: &str, reader: &mut $crate::plan::read::Reader<'_>) {
                if let Some(value) = $crate::plan::read::parsed(text, reader) {
                    *self = value;
                }
            }
        }
    )*};
}

pub(in crate::plan) use texts;

texts! {
    Cidr ClusterName CookieName HeaderName IssuerName KeyId Namespace NetworkName PublicKey RegionName Scope TrustDomain
}

impl Blank for Scope {
    const BLANK: Self = Self::Mesh;
}

/// One of some words, by what it stands for.
fn word<T: Copy>(text: &str, words: &[(&'static str, T)], reader: &mut Reader<'_>) -> Option<T> {
    let known = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    if known.is_none() {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        reader.wrong(&format_args!("{text:?} is none of {}", words.join(", ")));
    }
    known
}

macro_rules! words {
    ($($name:ident { $first:ident $($word:ident)* })*) => {$(
        impl Blank for $name {
            const BLANK: Self = Self::$first;
        }

        impl FromText for $name {
            fn take(&mut self, text: &str, reader: &mut Reader<'_>) {
                let words = [(stringify!($first), Self::$first), $((stringify!($word), Self::$word)),*];
                *self = word(text, &words, reader).unwrap_or(*self);
            }
        }
    )*};
}

words! {
    Boundary { Cluster Network Region Mesh }
    Demand { Claimed Verified }
    Judged { Remote All }
}

impl Blank for Role {
    const BLANK: Self = Self::Outbound;
}

impl FromText for Role {
    fn take(&mut self, text: &str, reader: &mut Reader<'_>) {
        *self = word(text, &Self::ALL.map(|role| (role.as_str(), role)), reader).unwrap_or(*self);
    }
}

impl FromPlan for HashOn {
    fn blank() -> Self {
        Self::Header(HeaderName::BLANK)
    }

    fn fill<'j>(&mut self, json: Json<'j>, reader: &mut Reader<'j>) {
        let (mut header, mut cookie) = (None, None);
        reader.object(json, &[("header", false), ("cookie", false)], &mut [&mut header, &mut cookie]);
        match (header, cookie) {
            (Some(header), None) => *self = Self::Header(header),
            (None, Some(cookie)) => *self = Self::Cookie(cookie),
            (Some(_), Some(_)) | (None, None) => reader.wrong(&"a header or a cookie belongs here"),
        }
    }
}
