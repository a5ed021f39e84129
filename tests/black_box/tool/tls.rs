//! Mistakes in TLS and certificates, of the API, of sources and of upstreams; and registries that
//! are down.

use support::{Layout, Mistakes, Recorder, TlsServer, mistake, nobody_listens, with};

#[tokio::test]
async fn what_is_wrong_with_tls_is_told_with_what_helps() {
    let mut mistakes = Mistakes::start().await;
    let server = TlsServer::start("127.0.0.1", false).await;
    let authority = TlsServer::start("127.0.0.1", true).await;
    let other = TlsServer::start("registry.example.com", false).await;
    let (nobody, _reserved) = nobody_listens();
    let plain = Recorder::registry(&Layout::of_layers(&[b"layer"]), |_| None).await;
    for (name, server) in [("server", &server), ("authority", &authority), ("other", &other)] {
        let file = mistakes.home.path().join(name);
        std::fs::write(&file, &server.certificate).unwrap();
        mistakes.values.insert(name, server.host.clone());
    }
    mistakes.values.insert("plain", plain.host().to_owned());
    mistakes.values.insert("nobody", nobody.strip_prefix("http://").unwrap().to_owned());
    let rules = [
        ("down", "http://{nobody}", ""),
        ("no-tls", "https://{plain}", "--allow-host 127.0.0.1"),
        ("wants-tls", "http://{server}", ""),
        ("unknown", "https://{server}", "--allow-host 127.0.0.1"),
        ("private", "https://{server}", ""),
    ];
    for (prefix, upstream, options) in rules {
        let create = format!("pull-through create {prefix} --upstream {upstream} {options}");
        assert!(mistakes.run(&[], create.trim_end()).await.status.success(), "{prefix}");
    }
    const TRUSTING: &[(&str, &str)] = &[("SSL_CERT_FILE", "{home}/server")];
    mistakes.make(&[
        with(
            &[("API_URL", "https://{host}")],
            mistake(
                "https for the local stack",
                "login",
                1,
                "layergate: cannot log in at https://{host}: the server does not speak TLS; begin API_URL with \
                 http://",
            ),
        ),
        with(
            &[("API_URL", "http://{server}")],
            mistake(
                "http for a server with TLS",
                "login",
                1,
                "layergate: cannot log in at http://{server}: the server did not take a request without TLS; begin \
                 API_URL with https://",
            ),
        ),
        with(
            &[("API_URL", "https://{server}")],
            mistake(
                "a self-signed certificate",
                "login",
                1,
                "layergate: cannot log in at https://{server}: the server has a certificate that is not signed by an \
                 authority that this machine trusts; set SSL_CERT_FILE to a file with the authority's certificate, \
                 or with the server's own if it is self-signed",
            ),
        ),
        with(
            &[("API_URL", "https://{server}"), ("SSL_CERT_FILE", "{home}/server")],
            mistake(
                "the advice for it helps",
                "login",
                1,
                "layergate: cannot log in at https://{server}: the server is not a layergate API; check API_URL",
            ),
        ),
        with(
            &[("SSL_CERT_FILE", "{home}/authority")],
            mistake(
                "an authority's certificate, as openssl makes it",
                "publish docker://{authority}/team/app:1 --plain-http=false --create-repository app:1",
                1,
                "layergate: cannot get the tag '1' from {authority}/team/app: it has a certificate for authorities \
                 (CA:TRUE), and no server may use such a one; make another one, with 'openssl req -x509 -addext \
                 basicConstraints=critical,CA:FALSE ...', and set SSL_CERT_FILE to it",
            ),
        ),
        with(
            &[("SSL_CERT_FILE", "{home}/other")],
            mistake(
                "a certificate for another host",
                "publish docker://{other}/team/app:1 --plain-http=false --create-repository app:1",
                1,
                "layergate: cannot get the tag '1' from {other}/team/app: it has a certificate for another name; use \
                 a name that is in the certificate",
            ),
        ),
        mistake(
            "a self-signed certificate of a registry",
            "publish docker://{server}/team/app:1 --plain-http=false --create-repository app:1",
            1,
            "layergate: cannot get the tag '1' from {server}/team/app: it has a certificate that is not signed by an \
             authority that this machine trusts; set SSL_CERT_FILE to a file with the authority's certificate, or \
             with the server's own if it is self-signed",
        ),
        with(
            TRUSTING,
            mistake(
                "the advice for that helps, too",
                "publish docker://{server}/team/app:1 --plain-http=false --create-repository app:1",
                3,
                "layergate: cannot get the tag '1' from {server}/team/app: it has no such image; check the name, and \
                 the tag or digest",
            ),
        ),
        mistake(
            "TLS for a registry without",
            "publish docker://{plain}/team/app:1 --plain-http=false --create-repository app:1",
            1,
            "layergate: cannot get the tag '1' from {plain}/team/app: it does not speak TLS; give --plain-http",
        ),
        mistake(
            "no TLS for a registry with",
            "publish docker://{server}/team/app:1 --create-repository app:1",
            1,
            "layergate: cannot get the tag '1' from {server}/team/app: it did not take a request without TLS; give \
             --plain-http=false",
        ),
        mistake(
            "a registry that is down",
            "publish docker://{nobody}/team/app:1 --create-repository app:1",
            1,
            "layergate: cannot get the tag '1' from {nobody}/team/app: it cannot be reached: Connection refused (os \
             error 111); check the name and the network, or run it again later",
        ),
        mistake(
            "an upstream that is down",
            "pull-through validate down",
            1,
            "layergate: the rule 'down' is not valid: the upstream registry cannot be reached: Connection refused (os \
             error 111); check the rule's --upstream, and the network",
        ),
        mistake(
            "an upstream without TLS",
            "pull-through validate no-tls",
            1,
            "layergate: the rule 'no-tls' is not valid: the upstream registry does not speak TLS; create the rule \
             again, with http:// in --upstream",
        ),
        mistake(
            "an upstream with TLS",
            "pull-through validate wants-tls",
            1,
            "layergate: the rule 'wants-tls' is not valid: the upstream registry did not take a request without TLS; \
             create the rule again, with https:// in --upstream",
        ),
        mistake(
            "an upstream with a self-signed certificate",
            "pull-through validate unknown",
            1,
            "layergate: the rule 'unknown' is not valid: the upstream registry has a certificate that is not signed \
             by an authority that this machine trusts; set SSL_CERT_FILE to a file with the authority's certificate, \
             or with the server's own if it is self-signed",
        ),
        mistake(
            "an upstream at a private address",
            "pull-through validate private",
            1,
            "layergate: the rule 'private' is not valid: the upstream registry leads to 127.0.0.1, whose address is \
             not one of the internet; if you trust that host, create the rule again, with --allow-host 127.0.0.1",
        ),
    ])
    .await;
}
