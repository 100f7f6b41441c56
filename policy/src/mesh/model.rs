//! How a mesh is built, and of which Istio.

use std::fmt;
use std::str::FromStr;

/// One or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    /// One.
    One,
    /// Several.
    Many,
}

impl Count {
    pub(super) fn of(number: usize) -> Self {
        if number > 1 { Self::Many } else { Self::One }
    }
}

/// Which of the eight ways of building a mesh of several clusters it is, in Istio's words.
///
/// ```
/// use policy::mesh::{Count, Model};
/// let model = Model { networks: Count::Many, control_planes: Count::Many, meshes: Count::One };
/// assert_eq!(model.to_string(), "multi-primary on different networks");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Model {
    /// The networks of its clusters.
    pub networks: Count,
    /// The control planes of each mesh.
    pub control_planes: Count,
    /// The meshes, each with a root CA of its own.
    pub meshes: Count,
}

impl fmt::Display for Model {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.control_planes {
            Count::One => "primary-remote",
            Count::Many => "multi-primary",
        })?;
        out.write_str(match self.networks {
            Count::One => " on one network",
            Count::Many => " on different networks",
        })?;
        match self.meshes {
            Count::One => Ok(()),
            Count::Many => out.write_str(", federated with other meshes"),
        }
    }
}

/// The object of Istio that puts the filter before proxies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extension {
    /// What every Istio reads that runs Wasm.
    #[default]
    WasmPlugin,
    /// What Istio reads beside it since 1.30.
    TrafficExtension,
}

impl Extension {
    /// Both.
    pub const ALL: [Self; 2] = [Self::WasmPlugin, Self::TrafficExtension];

    /// As the kind of an object is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WasmPlugin => "WasmPlugin",
            Self::TrafficExtension => "TrafficExtension",
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::WasmPlugin => Self::TrafficExtension,
            Self::TrafficExtension => Self::WasmPlugin,
        }
    }
}

/// What a proxy does with requests when the filter breaks: `failStrategy` of a `WasmPlugin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It refuses them, and starts the filter anew.
    Reload,
    /// It refuses them until it gets another configuration: all that an Istio before 1.27 knows beside the next.
    Close,
    /// It lets them all pass unjudged. Only where `mesh.yaml` says so.
    Open,
}

impl OnFailure {
    /// As a `WasmPlugin` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reload => "FAIL_RELOAD",
            Self::Close => "FAIL_CLOSE",
            Self::Open => "FAIL_OPEN",
        }
    }
}

/// A text is not a version of Istio that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IstioVersionError {
    /// Not a version at all.
    #[error("{0:?} is not a version of Istio: write it in quotes, such as \"1.30\" or \"1.30.3\"")]
    NotAVersion(String),
    /// A version that takes no WasmPlugin.
    #[error("{0:?} is too old: the filter comes as a WasmPlugin, which Istio has since 1.12")]
    TooOld(String),
}

/// A version of Istio, as far as it changes what its proxies can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IstioVersion {
    pub(super) major: u16,
    pub(super) minor: u16,
}

impl IstioVersion {
    /// The first that takes a WasmPlugin.
    const OLDEST: Self = Self { major: 1, minor: 12 };

    /// The first number.
    pub fn major(self) -> u16 {
        self.major
    }

    /// The second number.
    pub fn minor(self) -> u16 {
        self.minor
    }
}

impl fmt::Display for IstioVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for IstioVersion {
    type Err = IstioVersionError;

    fn from_str(text: &str) -> Result<Self, IstioVersionError> {
        let mut parts =
            text.splitn(3, '.').map(|part| part.split('-').next().and_then(|part| part.parse().ok()));
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Some(major)), Some(Some(minor)), None | Some(Some(_))) => {
                let version = Self { major, minor };
                if version < Self::OLDEST {
                    return Err(IstioVersionError::TooOld(text.to_owned()));
                }
                Ok(version)
            }
            _ => Err(IstioVersionError::NotAVersion(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_major_and_minor_whatever_follows() {
        for (text, version) in
            [("1.30", (1, 30)), ("1.30.3", (1, 30)), ("1.31.0-rc.0", (1, 31)), ("2.0-beta", (2, 0))]
        {
            let read: IstioVersion = text.parse().unwrap();
            assert_eq!((read.major, read.minor), version, "{text}");
        }
        for text in ["", "1", "1.x", "v1.30", "latest", "1.30.x"] {
            let error = IstioVersionError::NotAVersion(text.to_owned());
            assert_eq!(text.parse::<IstioVersion>(), Err(error));
        }
    }

    #[test]
    fn a_version_without_wasm_plugins_is_too_old() {
        assert!("1.12".parse::<IstioVersion>().is_ok());
        for text in ["1.11.8", "1.7", "0.8"] {
            assert_eq!(text.parse::<IstioVersion>(), Err(IstioVersionError::TooOld(text.to_owned())));
        }
    }
}
