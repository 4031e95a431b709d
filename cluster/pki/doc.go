// Package pki is the boundary's own certificate authority: the CA and its
// sealed key, certificates that carry an Identity, the pin by which a joiner
// knows the CA, and the tokens that let it in.
//
// Keys are ECDSA P-256. Ed25519 would be as fast and simpler, but client
// certificates are also shown to the API by curl, browsers and libraries of
// other languages, and some of those cannot use it. One kind of key is
// accepted, so there is one kind to get right.
//
// It knows no network, no state and no clock: the time is passed in. Who may
// join, how often a token counts and which certificates are revoked is decided
// by those who hold the state.
package pki
