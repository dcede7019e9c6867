// What the page's JSDoc names, beside the types of the browser. The types of the Web API are made from docs/openapi.json.
import type { components, operations } from "./build/openapi";

type Schemas = components["schemas"];

/** The body of an operation's success. */
type Body<Operation extends keyof operations> = {
	[Status in keyof operations[Operation]["responses"]]: Status extends 200 | 201 | 202
		? operations[Operation]["responses"][Status] extends { content: { "application/json": infer Content } }
			? Content
			: never
		: never;
}[keyof operations[Operation]["responses"]];

type Tag<What> = What extends `${infer Name}.${string}` ? Name : What;
type Listeners = {
	[Name in keyof HTMLElementEventMap as `on${Name}`]?: (event: HTMLElementEventMap[Name]) => unknown;
};

declare global {
	type Receipt = Schemas["Receipt"];
	/** A receipt of the ledger, where each has a number. */
	type Imported = Receipt & { import_id: number };
	type Checked = NonNullable<Schemas["Upload"]["check"]>;
	type Registered = NonNullable<Schemas["Upload"]["import"]>;
	type Upload = {
		[State in Schemas["Upload"]["state"]]: {
			id: string;
			state: State;
			check: State extends "checked" ? Checked : Checked | null;
			import: State extends "registered" ? Registered : null;
		};
	}[Schemas["Upload"]["state"]];
	/** A fault as the page shows it; a code of a problem is one, too. */
	type Fault = { code: string; column: string | null; message?: string };
	type Cells = Record<string, string>;
	/** JSON Schema of a column, as far as the page uses it. */
	type Schema = {
		type?: string;
		format?: string;
		enum?: string[];
		pattern?: string;
		minimum?: number;
		maximum?: number;
		maxLength?: number;
	};
	type Column = { name: string; optional: boolean; schema: Schema };
	type Policy = Omit<Body<"get_policy">, "columns"> & { columns: Column[] };
	type FoundRow = Omit<Schemas["Rejections"]["rows"][number], "cells"> & { cells: Cells };
	type RejectionsPath = `/api/${string}/rejections?${string}`;
	type Rejections = { rows: FoundRow[]; next: RejectionsPath | null };
	type ImportsPath = `/api/imports?${string}`;
	type Imports = { imports: Imported[]; next: ImportsPath | null };
	type ProblemBody = Partial<Schemas["Problem"]>;
	type SignIn = { issuer: string; client: string };

	/** What each address of the Web API answers. */
	type Answer<Path extends string> = Path extends "/api/policy"
		? Policy
		: Path extends "/api/rows/check"
			? Body<"check_rows">
			: Path extends ImportsPath
				? Imports
				: Path extends `/api/imports/${string}/undo`
					? Receipt
					: Path extends `/api/${string}/corrections` | `/api/uploads/${string}/registration`
						? Upload
						: Path extends `/api/imports/${string}/rejected?as=link`
							? Blob | { url: string }
							: Path extends RejectionsPath
								? Rejections
								: Path extends `/api/imports/${string}`
									? Imported
									: Path extends `/api/uploads/${string}`
										? Upload
										: Path extends "/api/uploads"
											? Body<"start_upload">
											: unknown;

	/** What a view gets. */
	type View = { policy: Policy; signal: AbortSignal; go: (hash: string) => unknown };

	/** The element that `h` makes of "tag.class". */
	type Made<What> = Tag<What> extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[Tag<What>] : HTMLElement;
	type Attributes = Listeners & { [name: string]: unknown };
	type Child = Node | string | null | undefined | false | 0;
}
