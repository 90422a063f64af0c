//! URLs of nodes. Their user, password, path and query may hold a provider's access key: only scheme, host and port are shown.

use reqwest::Url;
use std::fmt::{Debug, Display, Formatter, Result as Written};

/// What is shorter in a path or a query is no access key, but something like `v3`.
const SHORTEST_SECRET: usize = 4;

/// The URL of a node, over HTTP or HTTPS.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeUrl {
    url: Url,
    /// Scheme, host and port.
    name: String,
}

/// Why a text is no URL of a node. It holds nothing of the text that may be secret.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It can't be read as a URL.
    #[error("not a URL: {0}")]
    Syntax(String),
    /// It has another scheme, or none.
    #[error("a node's URL begins with http:// or https://")]
    Scheme,
    /// It ends in a fragment.
    #[error("{0}: the part after `#` is never sent to a node")]
    Fragment(String),
}

impl NodeUrl {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let url: Url = text.parse().map_err(|error| UrlError::Syntax(format!("{error}")))?;
        let (true, Some(host)) = (matches!(url.scheme(), "http" | "https"), url.host_str()) else {
            return Err(UrlError::Scheme);
        };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let name = format!("{}://{host}{port}", url.scheme());
        if url.fragment().is_some() {
            return Err(UrlError::Fragment(name));
        }
        Ok(Self { url, name })
    }

    /// What may be shown: scheme, host and port.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All of it, for requests only.
    pub fn expose(&self) -> &Url {
        &self.url
    }

    /// Whether its path ends so.
    pub fn ends_with(&self, path: &str) -> bool {
        self.url.path().trim_end_matches('/').ends_with(path)
    }

    /// A text without what of this URL may be an access key: some servers repeat the path that they do not know, or parts of it.
    /// Only a whole text can be redacted: in one that was cut, half a key may be left.
    pub fn redact(&self, text: &str) -> String {
        let secrets = self.secrets();
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
    }

    /// What may be an access key, the longest first: one may be part of another.
    fn secrets(&self) -> Vec<String> {
        let is_long = |part: &&str| part.len() >= SHORTEST_SECRET;
        let (path, query) = (self.url.path(), self.url.query().unwrap_or_default());
        // As they were sent, and as a server reads them.
        let pairs: Vec<(String, String)> = self.url.query_pairs().into_owned().collect();
        let read = pairs.iter().map(|(name, value)| if value.is_empty() { name } else { value });
        let sent = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
        let parts = path.split('/').chain(sent).chain(read.map(String::as_str)).filter(is_long);
        let whole = [path.trim_matches('/'), query].into_iter().filter(is_long);
        let user = [self.url.username(), self.url.password().unwrap_or_default()];
        let user = user.into_iter().filter(|part| !part.is_empty());
        let mut secrets: Vec<String> = parts.chain(whole).chain(user).map(str::to_owned).collect();
        secrets.sort_unstable_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        secrets.dedup();
        secrets
    }

    /// The address of something below this URL, such as `eth/v1/node/syncing`, with this URL's query.
    pub fn below(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{path}", self.url.path().trim_end_matches('/')));
        url
    }
}

impl Display for NodeUrl {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        f.write_str(&self.name)
    }
}

/// By hand, because a derived one would show the access key.
impl Debug for NodeUrl {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scheme_host_and_port_are_shown() {
        for (text, name) in [
            ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
            ("https://user:SECRET@node.example/v3/SECRET?key=SECRET", "https://node.example"),
            (" HTTP://[::1]:8545/ ", "http://[::1]:8545"),
        ] {
            let url = NodeUrl::parse(text).unwrap();
            assert_eq!((url.name(), url.to_string(), format!("{url:?}")), (name, name.into(), name.into()));
        }
    }

    #[test]
    fn what_is_no_url_of_a_node_is_refused_without_a_secret() {
        for (text, error) in [
            ("wss://user:SECRET@node.example/SECRET", UrlError::Scheme),
            ("SECRET:8545", UrlError::Scheme),
            ("http://user:SECRET@127.0.0.1:99999", UrlError::Syntax("invalid port number".to_owned())),
            ("node.example/SECRET", UrlError::Syntax("relative URL without a base".to_owned())),
            ("https://node.example/SECRET#SECRET", UrlError::Fragment("https://node.example".to_owned())),
        ] {
            let found = NodeUrl::parse(text).unwrap_err();
            assert_eq!(found, error, "{text}");
            assert!(!format!("{found} {found:?}").contains("SECRET"), "{found:?}");
        }
    }

    #[test]
    fn every_part_of_a_url_that_may_be_a_key_is_redacted_wherever_it_is_repeated() {
        for (url, text, shown) in [
            ("http://a/v3/SECRET", "no project SECRET at /v3/SECRET", "no project … at /…"),
            ("http://a/SECRET/more", "no SECRET", "no …"),
            ("http://a/?key=SECRET&id=7", "bad key SECRET, id 7", "bad key …, id 7"),
            ("http://a/?SECRET", "bad SECRET", "bad …"),
            ("http://a/?key=SEC%2BRET", "bad SEC+RET or SEC%2BRET", "bad … or …"),
            ("http://user:pw@a/", "user pw", "… …"),
            // One that is part of another.
            ("http://a/abcd/abcdefgh", "abcdefgh abcd", "… …"),
            ("http://a", "nothing is secret", "nothing is secret"),
        ] {
            assert_eq!(NodeUrl::parse(url).unwrap().redact(text), shown, "{url}");
        }
    }

    #[test]
    fn a_path_below_keeps_prefix_user_and_query() {
        for (text, below) in [
            ("http://a:1", "http://a:1/eth/v1/node/syncing"),
            ("http://a:1/key/?k=v", "http://a:1/key/eth/v1/node/syncing?k=v"),
            ("http://u:p@a/key", "http://u:p@a/key/eth/v1/node/syncing"),
        ] {
            assert_eq!(NodeUrl::parse(text).unwrap().below("eth/v1/node/syncing").as_str(), below);
        }
    }
}
