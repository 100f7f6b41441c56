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

/// A text is not a version of Istio.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version of Istio: write it in quotes, such as \"1.30\" or \"1.30.3\"")]
pub struct IstioVersionError(String);

/// A version of Istio, as far as it changes what its proxies can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IstioVersion {
    pub(super) major: u16,
    pub(super) minor: u16,
}

impl fmt::Display for IstioVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for IstioVersion {
    type Err = IstioVersionError;

    fn from_str(text: &str) -> Result<Self, IstioVersionError> {
        let refused = || IstioVersionError(text.to_owned());
        let mut parts =
            text.splitn(3, '.').map(|part| part.split('-').next().and_then(|part| part.parse().ok()));
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Some(major)), Some(Some(minor)), None | Some(Some(_))) => Ok(Self { major, minor }),
            _ => Err(refused()),
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
            assert!(text.parse::<IstioVersion>().is_err(), "{text}");
        }
    }
}
