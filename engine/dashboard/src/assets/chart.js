// Charts by Plotly, in the colours of the page.
//
// Plotly reads some markup in texts, so none that comes from a sensor is given to it: only numbers and times.

export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export function layout(more) {
  const axis = { gridcolor: color('line'), linecolor: color('line'), zerolinecolor: color('line'), tickfont: { size: 11 } };
  const { xaxis = {}, yaxis = {}, yaxis2, ...others } = more;
  return {
    paper_bgcolor: 'rgba(0,0,0,0)',
    plot_bgcolor: 'rgba(0,0,0,0)',
    font: { color: color('text'), family: 'system-ui, sans-serif', size: 12 },
    margin: { l: 56, r: 12, t: 8, b: 36 },
    legend: { orientation: 'h', y: 1.12 },
    xaxis: { ...axis, type: 'date', ...xaxis },
    yaxis: { ...axis, automargin: true, ...yaxis },
    ...(yaxis2 ? { yaxis2: { ...axis, automargin: true, ...yaxis2 } } : {}),
    ...others,
  };
}

/** Draws, once Plotly is there. */
export function draw(target, traces, shape, config = {}) {
  if (!window.Plotly) {
    addEventListener('load', () => draw(target, traces, shape, config), { once: true });
    return Promise.resolve();
  }
  return window.Plotly.react(target, traces, shape, { displaylogo: false, responsive: true, ...config });
}

/** Milliseconds since 1970 as Plotly wants times: UTC, whatever the zone of the browser. */
export const utc = (milliseconds) => new Date(milliseconds).toISOString().replace('Z', '');
