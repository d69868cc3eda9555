//! The address of a server.

use std::fmt;

use url::{Host, Url};

/// The public API.
pub const PUBLIC: &str = "https://api.openai.com/v1";

/// The address under which a server answers. It holds no secret, so it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    url: Url,
}

impl Address {
    /// The address that a pipeline gives.
    ///
    /// # Errors
    /// A sentence: no http or https address, or one that holds a user name, a password, a query or a fragment.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text.trim_end_matches('/')).map_err(|error| format!("it is no address: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err("it must begin with https:// or http://".to_owned());
        }
        // The text is not repeated: what stands there may be a secret.
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it must not hold a user name or a password".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("it must not hold a `?` or a `#`".to_owned());
        }
        Ok(Self { url })
    }

    /// Whether the server is this machine: only then may a key go over plain http.
    pub fn is_local(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
            }
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        }
    }

    /// Whether what is sent can not be read on its way.
    pub fn is_private(&self) -> bool {
        self.url.scheme() == "https" || self.is_local()
    }

    /// Whether nothing is encrypted.
    pub fn is_plain(&self) -> bool {
        self.url.scheme() == "http"
    }

    /// Whether this is the public API.
    pub fn is_public_api(&self) -> bool {
        self.url.host_str() == Some("api.openai.com")
    }

    /// Scheme, host and port, which name the server.
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The address without a slash at its end.
    pub fn as_str(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_this_machine_and_https_are_private() {
        let private = |text: &str| Address::parse(text).unwrap().is_private();
        for yes in [
            "https://api.openai.com/v1",
            "http://localhost:8000/v1",
            "http://127.0.0.1:1/v1",
            "http://127.8.9.1/v1",
            "http://[::1]:8000/v1",
            "http://model.localhost/v1",
        ] {
            assert!(private(yes), "{yes}");
        }
        for no in [
            "http://example.org/v1",
            "http://10.0.0.1/v1",
            "http://localhost.example.org/v1",
            "http://notlocalhost/v1",
            "http://128.0.0.1/v1",
        ] {
            assert!(!private(no), "{no}");
        }
    }

    #[test]
    fn an_address_holds_no_secret_and_says_none() {
        for text in [
            "https://me:hunter2@example.org/v1",
            "https://hunter2@example.org/v1",
            "https://example.org/v1?key=hunter2",
            "https://example.org/v1#hunter2",
            "ftp://hunter2",
            "hunter2",
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert_eq!(
            Address::parse("https://example.org/v1/").unwrap().as_str(),
            "https://example.org/v1"
        );
        assert_eq!(
            Address::parse("https://example.org").unwrap().to_string(),
            "https://example.org"
        );
    }
}
