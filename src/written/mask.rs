//! What of a URL may be shown: credentials before the host and query values that look like keys become `***`.

/// Parts of the names of query parameters whose values are secrets.
const SECRET_PARAMETERS: [&str; 6] = ["token", "key", "secret", "password", "auth", "sig"];

/// `text` with what is secret in a URL masked; text that is no URL stays as it is.
pub(crate) fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or_else(|| authority.to_owned(), |(_, host)| format!("***@{host}"));
    format!("{scheme}://{host}{}", query(tail))
}

fn query(tail: &str) -> String {
    let Some((path, query)) = tail.split_once('?') else { return tail.to_owned() };
    let pairs: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if SECRET_PARAMETERS.iter().any(|part| name.to_lowercase().contains(part)) => {
                format!("{name}=***")
            }
            _ => pair.to_owned(),
        })
        .collect();
    format!("{path}?{}", pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn credentials_and_keys_in_a_url_are_masked() {
        for (text, shown) in [
            ("http://localhost:8000/a@b", "http://localhost:8000/a@b"),
            ("https://ops:hunter2@host/x", "https://***@host/x"),
            ("https://host?api_key=hunter2&page=2", "https://host?api_key=***&page=2"),
            ("hello", "hello"),
        ] {
            assert_eq!(url(text), shown);
        }
    }
}
