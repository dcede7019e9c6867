// Signs in at the issuer: the code flow of OpenID Connect with PKCE. The token stays in memory.
import { setToken } from './api.js';

const KEPT = 'rollcall.signin';

/** @param {SignIn} at */
async function discovered(at) {
	const answer = await fetch(`${at.issuer.replace(/\/$/, '')}/.well-known/openid-configuration`, {
		signal: AbortSignal.timeout(20_000),
	});
	return answer.json();
}

/** @param {Uint8Array} bytes */
function base64(bytes) {
	return btoa(String.fromCharCode(...bytes))
		.replaceAll('+', '-')
		.replaceAll('/', '_')
		.replaceAll('=', '');
}

function random() {
	return base64(crypto.getRandomValues(new Uint8Array(32)));
}

/**
 * Leave for the issuer's page.
 * @param {SignIn} at
 */
export async function signIn(at) {
	const { authorization_endpoint: endpoint } = await discovered(at);
	const kept = { state: random(), verifier: random(), hash: location.hash };
	sessionStorage.setItem(KEPT, JSON.stringify(kept));
	const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(kept.verifier));
	const query = new URLSearchParams({
		response_type: 'code',
		client_id: at.client,
		redirect_uri: `${location.origin}/`,
		scope: 'openid rollcall/upload rollcall/operate',
		state: kept.state,
		code_challenge: base64(new Uint8Array(digest)),
		code_challenge_method: 'S256',
	});
	location.assign(`${endpoint}?${query}`);
}

/**
 * Come back from the issuer's page.
 * @param {SignIn} at
 * @returns {Promise<boolean>} whether somebody is signed in
 */
export async function finishSignIn(at) {
	const query = new URLSearchParams(location.search);
	const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? 'null');
	if (!kept || !query.has('state')) return false;
	sessionStorage.removeItem(KEPT);
	history.replaceState(null, '', `/${kept.hash || '#/'}`);
	const code = query.get('code');
	if (query.get('state') !== kept.state || !code) return false;
	const { token_endpoint: endpoint } = await discovered(at);
	const answer = await fetch(endpoint, {
		method: 'POST',
		body: new URLSearchParams({
			grant_type: 'authorization_code',
			client_id: at.client,
			redirect_uri: `${location.origin}/`,
			code,
			code_verifier: kept.verifier,
		}),
		signal: AbortSignal.timeout(20_000),
	});
	if (!answer.ok) return false;
	setToken((await answer.json()).access_token);
	return true;
}
