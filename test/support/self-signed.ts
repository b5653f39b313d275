/**
 * A certificate that has signed itself, for `localhost` and 127.0.0.1, valid for 100 years. It protects nothing:
 * its key is public. It was made once, because Node can't make certificates:
 *
 *     openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 \
 *       -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out cert.pem
 */
export const SELF_SIGNED = {
  cert: `-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIULQoGE3tDSGxFI55CsZ7ssc7KWK0wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzA3MDIzNFoYDzIxMjYxMDMw
MDcwMjM0WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARtcBllcCBa2JxVomC+rlUDzV+K6fuW7oT2eN+/yO2+WX5lpwDBwucs
KviEM2Wbcf5lYN4xh+DS6Aq2vzCwQxN+o28wbTAdBgNVHQ4EFgQUZFpdonGyecb3
/9T2rl6KuShEaLIwHwYDVR0jBBgwFoAUZFpdonGyecb3/9T2rl6KuShEaLIwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIhAMHdBgd0KfWg602TIZ2yqgcyzcrERBl7gr+veuxNWgFIAiBS
Qat4iDpyoAu5bIDaOAXp5DvcuidSlxlILOExBLIyrg==
-----END CERTIFICATE-----
`,
  key: `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgYaQ4tNQ+7ISafRIZ
wVszZdYW2sS3ojK065oEa1pvUJehRANCAARtcBllcCBa2JxVomC+rlUDzV+K6fuW
7oT2eN+/yO2+WX5lpwDBwucsKviEM2Wbcf5lYN4xh+DS6Aq2vzCwQxN+
-----END PRIVATE KEY-----
`,
};
