//! The configuration reference, written from the tables.

use super::issuer::IssuerSettings;
use super::layers::{Fallback, Setting, variable};
use super::{PREFIX, Table};
use std::fmt::Write;

const HEAD: &str = "# Configuration

Every setting has one name. It can be given, and the first that is there counts:

1. on the command line: `certwright serve --set NAME=VALUE`; the most usual ones have a flag of their own (`certwright serve --help`),
2. in the environment: `CERTWRIGHT_<NAME>`,
3. in a file: `certwright.toml` in the working folder, or the one that `--config FILE` or `CERTWRIGHT_CONFIG` names.

An unknown key in the file or on the command line is an error; an unknown `CERTWRIGHT_…` variable is told in the log. Durations are
written as `500ms`, `30s`, `10m`, `6h` or `90d`. Lists are TOML arrays in the file, and have commas elsewhere. Paths are relative to the
working folder. This page is written by `certwright docs configuration`; a test compares the two.

A whole file for a public server:

```toml
data_dir = \"/var/lib/certwright\"
http = \"0.0.0.0:80\"
https = \"0.0.0.0:443\"
base_domain = \"sites.example.net\"
edge_addresses = [\"192.0.2.10\"]
issuers = [\"letsencrypt\"]

[[issuer]]
name = \"letsencrypt\"
contacts = [\"mailto:ops@example.net\"]
```
";

const ISSUERS: &str = "
## `[[issuer]]` tables

One table for each CA that needs more than its name. `internal`, `letsencrypt` and `letsencrypt-staging` work without a table. In the
environment a setting of the issuer `corp-ca` is `CERTWRIGHT_ISSUER_CORP_CA_<NAME>`. See [the internal CA](issuers/internal.md) and
[ACME](issuers/acme.md).
";

const CLIENTS: &str = "
## Variables of the client commands

| variable | for |
|---|---|
| `CERTWRIGHT_URL` | the server to call, such as `http://127.0.0.1:9440`; otherwise it is read from the data folder |
| `CERTWRIGHT_TOKEN` | the token to call it with; otherwise `admin.token` in the data folder |
| `CERTWRIGHT_DATA_DIR` | the data folder, as above |
";

pub(crate) fn reference() -> String {
    let mut page = HEAD.to_owned();
    write_groups(&mut page, Table::TABLE, "##", Some(PREFIX));
    page.push_str(ISSUERS);
    write_groups(&mut page, IssuerSettings::TABLE, "###", None);
    page.push_str(CLIENTS);
    page
}

fn write_groups(page: &mut String, table: &[Setting], level: &str, prefix: Option<&str>) {
    let mut group = "";
    for setting in table {
        // Writing to a string does not fail.
        if setting.group != group {
            group = setting.group;
            let _ = write!(page, "\n{level} {group}\n\n| setting | is | default | |\n|---|---|---|---|\n");
        }
        let default = match setting.fallback {
            Fallback::Is("") => "none".to_owned(),
            Fallback::Is(text) => format!("`{text}`"),
            Fallback::Derived(text) => text.to_owned(),
            Fallback::Required => "required".to_owned(),
        };
        let variable = prefix.map(|prefix| format!("<br>`{}`", variable(prefix, setting.name))).unwrap_or_default();
        let also: String = setting.also.iter().map(|name| format!(", `{name}`")).collect();
        let _ = writeln!(page, "| `{}`{variable}{also} | {} | {default} | {} |", setting.name, setting.kind, setting.help);
    }
}
