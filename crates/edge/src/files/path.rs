//! From the path of a request to a relative path that can be trusted, or nothing.
//!
//! Each component is percent-decoded once, after the split, so that an encoded slash is no separator. `.`, `..`, empty
//! components, backslashes, NUL, and names that begin with a dot (but `.well-known`) lead nowhere.

/// Components without any special meaning, joined by slashes; empty for the root.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SitePath {
    relative: String,
    /// The request ended in a slash: only a folder will do.
    pub(super) wants_folder: bool,
}

impl SitePath {
    pub(super) fn parse(path: &str) -> Option<Self> {
        let path = path.strip_prefix('/')?;
        if path.is_empty() {
            return Some(Self { relative: String::new(), wants_folder: true });
        }
        let (path, wants_folder) = path.strip_suffix('/').map_or((path, false), |folder| (folder, true));
        let mut relative = String::with_capacity(path.len());
        for component in path.split('/') {
            if !relative.is_empty() {
                relative.push('/');
            }
            relative.push_str(&decode(component).filter(|name| is_plain(name))?);
        }
        Some(Self { relative, wants_folder })
    }

    pub(super) fn as_str(&self) -> &str {
        if self.relative.is_empty() { "." } else { &self.relative }
    }

    pub(super) fn index(&self) -> String {
        if self.relative.is_empty() { "index.html".to_owned() } else { format!("{}/index.html", self.relative) }
    }
}

fn is_plain(name: &str) -> bool {
    let is_hidden = name.starts_with('.') && name != ".well-known";
    !name.is_empty() && !is_hidden && !name.contains(['/', '\\', '\0'])
}

fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(octets).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row<'a> = (&'a str, Option<(&'a str, bool)>);

    #[test]
    fn only_plain_components_make_a_path() {
        #[rustfmt::skip]
        let table: &[Row<'_>] = &[
            ("/",                          Some((".", true))),
            ("/a.txt",                     Some(("a.txt", false))),
            ("/a/b/",                      Some(("a/b", true))),
            ("/a%20b",                     Some(("a b", false))),
            ("/%C3%A9",                    Some(("é", false))),
            ("/.well-known/security.txt",  Some((".well-known/security.txt", false))),
            ("",                           None),
            ("*",                          None),
            ("//",                         None),
            ("//etc/passwd",               None),
            ("/a//b",                      None),
            ("/..",                        None),
            ("/../a",                      None),
            ("/a/../b",                    None),
            ("/a/..",                      None),
            ("/./a",                       None),
            ("/%2e%2e/a",                  None),
            ("/%2E./a",                    None),
            ("/..%2fa",                    None),
            ("/a%2fb",                     None),
            ("/a%5cb",                     None),
            ("/..%5c..%5ca",               None),
            ("/a\\b",                      None),
            ("/a%00.txt",                  None),
            ("/%252e%252e/a",              Some(("%2e%2e/a", false))),
            ("/%ff",                       None),
            ("/%",                         None),
            ("/%2",                        None),
            ("/%zz",                       None),
            ("/.git/config",               None),
            ("/.env",                      None),
            ("/a/.htaccess",               None),
        ];
        for (path, expected) in table {
            let got = SitePath::parse(path);
            assert_eq!(got.as_ref().map(|p| (p.as_str(), p.wants_folder)), *expected, "{path}");
        }
    }
}
