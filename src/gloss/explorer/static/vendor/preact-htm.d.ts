// Types of the parts that the page uses.
export type VNode = object;
export type Child = VNode | string | number | boolean | null | undefined | Child[];
export function html(strings: TemplateStringsArray, ...values: unknown[]): any;
export function render(node: any, parent: Element): void;
export function h(type: unknown, props: unknown, ...children: unknown[]): any;
export class Component<P = {}, S = {}> {
  constructor(props?: P);
  props: P;
  state: S;
  shouldComponentUpdate?(nextProps: P, nextState: S): boolean;
  setState(state: Partial<S>): void;
  render(props: P, state: S): any;
}
export type Ref<T> = { current: T };
export function useState<T>(initial: T | (() => T)): [T, (value: T | ((old: T) => T)) => void];
export function useEffect(effect: () => void | (() => void), inputs?: unknown[]): void;
export function useLayoutEffect(effect: () => void | (() => void), inputs?: unknown[]): void;
export function useRef<T>(initial: T): Ref<T>;
export function useMemo<T>(factory: () => T, inputs?: unknown[]): T;
export function useCallback<T extends Function>(callback: T, inputs: unknown[]): T;
