// Begins: language, sign-in, the frame of the page, and the view of the address.
import { call, events, findToken, forgetToken, isSignedIn, Problem } from './api.js';
import { announce, fill, h, icon, status } from './dom.js';
import { home } from './home.js';
import { badge, failure, waiting } from './parts.js';
import { historyView, receiptView } from './receipt.js';
import { finishSignIn, signIn } from './signin.js';
import { currentLanguage, preferredLanguage, t, useColumns, useLanguage } from './text.js';
import { correctView, uploadView } from './verdict.js';

const main = h('main', { id: 'main', tabindex: -1 });
const banner = h('div.banner', { role: 'alert' });
/** @type {{sign_in: SignIn | null}} */
let site = { sign_in: null };
/** @type {Policy | null} */
let policy = null;
let view = new AbortController();

/** @type {[RegExp, (page: View, ...parts: string[]) => Promise<void>][]} */
const VIEWS = [
	[/^#?\/?$/, (page) => home(main, page)],
	[/^#\/uploads\/([0-9a-f]{64}-[0-9a-f]{40})$/, (page, id) => uploadView(main, page, id)],
	[/^#\/imports$/, (page) => historyView(main, page)],
	[/^#\/imports\/(\d{1,18})$/, (page, id) => receiptView(main, page, Number(id))],
	[/^#\/imports\/(\d{1,18})\/correct$/, (page, id) => correctView(main, page, Number(id))],
];

/** @param {string} hash */
function go(hash) {
	if (location.hash === hash) return show();
	location.hash = hash;
}

async function show() {
	view.abort();
	view = new AbortController();
	const { signal } = view;
	mark();
	if (!isSignedIn()) return showSignedOut();
	fill(banner);
	try {
		policy ??= await call('GET', '/api/policy', { signal });
		useColumns(policy.columns);
		for (const [pattern, open] of VIEWS) {
			const parts = location.hash.match(pattern);
			if (!parts) continue;
			const opened = open({ policy, signal, go }, ...parts.slice(1));
			window.scrollTo(0, 0);
			await opened;
			return;
		}
		throw new Problem(404, 'not-found');
	} catch (error) {
		if (signal.aborted) return;
		if (!isSignedIn()) return showSignedOut();
		const problem = error instanceof Problem ? error : new Problem(0, 'internal-error');
		fill(
			main,
			failure(
				problem.sentence,
				problem.passes ? h('button.primary', { onclick: () => show() }, t('actions.again')) : null,
				h('a.button.plain', { href: '#/' }, t('actions.start')),
			),
		);
		if (!(error instanceof Problem)) console.error(/** @type {Error} */ (error).stack);
	}
}

function showSignedOut() {
	fill(
		main,
		h(
			'section.card.state',
			badge('lock', 'rest'),
			h('h1', t('signin.title')),
			h('p.soft', t(site.sign_in ? 'signin.lead' : 'signin.local')),
			h('p.soft', t('signin.kept')),
			h('div.actions', signInButton()),
		),
	);
}

function signInButton() {
	const at = site.sign_in;
	return at && h('button.primary', { onclick: () => signIn(at) }, t('signin.button'));
}

function frame() {
	const other = currentLanguage() === 'en' ? 'ja' : 'en';
	fill(
		document.body,
		h(
			'a.skip',
			{
				href: '#main',
				onclick: (event) => {
					event.preventDefault();
					main.focus();
				},
			},
			t('app.skip'),
		),
		h(
			'header.top',
			h(
				'a.brand',
				{ href: '#/' },
				h('img', { src: '/assets/icon.svg', alt: '', width: 28, height: 28 }),
				'Rollcall',
			),
			h(
				'nav',
				{ 'aria-label': t('app.nav') },
				h('a', { href: '#/' }, t('app.new')),
				h('a', { href: '#/imports' }, t('app.history')),
			),
			h(
				'button.language',
				{
					lang: other,
					onclick: async () => {
						await useLanguage(other, true);
						frame();
						await show();
					},
				},
				t('app.other_language'),
			),
		),
		banner,
		main,
		status,
	);
	mark();
}

function mark() {
	const past = location.hash.startsWith('#/imports');
	const [start, history] = document.querySelectorAll('nav a');
	start.ariaCurrent = past ? null : 'page';
	history.ariaCurrent = past ? 'page' : null;
	document.title = `Rollcall · ${t(past ? 'app.history' : 'app.new')}`;
}

function watch() {
	let offline = false;
	const lost = () => {
		offline = true;
		fill(banner, h('p', icon('cloud'), t('app.offline')));
	};
	const back = () => {
		if (!offline) return;
		offline = false;
		fill(banner);
		announce(t('app.online'));
	};
	events.addEventListener('offline', lost);
	window.addEventListener('offline', lost);
	events.addEventListener('online', back);
	events.addEventListener('signedout', () => {
		fill(
			banner,
			h('p', icon('lock'), t('signin.expired'), ' ', t('signin.kept'), ' '),
			signInButton() ?? h('span', t('signin.local')),
		);
	});
	const follow = async () => {
		await show();
		// Somebody may work in the view already.
		if (document.activeElement === document.body) main.querySelector('h1')?.focus({ preventScroll: true });
	};
	window.addEventListener('hashchange', () => {
		if (location.hash.startsWith('#token=') && findToken()) policy = null;
		follow();
	});
	// The browser does nothing for a link to the address that is open, where a failure may be shown.
	document.addEventListener('click', ({ target }) => {
		const link = target instanceof Element && target.closest('a');
		if (link && link.getAttribute('href') === location.hash) follow();
	});
}

async function begin() {
	await useLanguage(preferredLanguage());
	frame();
	fill(main, waiting(t('app.loading')));
	site = await (await fetch('/assets/site.json')).json();
	findToken();
	if (site.sign_in && !(await finishSignIn(site.sign_in))) forgetToken();
	watch();
	await show();
}

begin();
