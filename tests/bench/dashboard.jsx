// Draws the panels of a Grafana dashboard with Grafana's own components; `window.shown` is the dashboard and its data.
import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import {
  applyFieldOverrides, createTheme, dateTime, FieldConfigOptionsRegistry, FieldType, getDisplayProcessor,
  identityOverrideProcessor, reduceField, ThemeContext, toDataFrame,
} from '@grafana/data';
import { BigValue, GlobalStyles, PanelChrome, TimeSeries } from '@grafana/ui';
import { createRoot } from 'react-dom/client';

const CELL = 38; // a unit of gridPos: 30 pixels and a gap of 8
const GAP = 8;
const { dashboard, width, from, to } = window.shown;
const theme = createTheme({ colors: { mode: 'dark' } });
const range = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };

// What a panel and its overrides may set; Grafana registers these with editors, which nobody needs here.
const option = (path, isCustom) => ({
  id: isCustom ? `custom.${path}` : path, path, isCustom, name: path,
  process: identityOverrideProcessor, shouldApply: (field) => !isCustom || field.type === FieldType.number, getItemsCount: () => 0,
  editor: () => null, override: () => null,
});
const options = new FieldConfigOptionsRegistry(() => [
  ...['unit', 'min', 'max', 'decimals', 'color', 'thresholds', 'mappings'].map((path) => option(path, false)),
  ...['drawStyle', 'lineInterpolation', 'lineWidth', 'lineStyle', 'fillOpacity', 'gradientMode', 'showPoints', 'spanNulls',
    'axisPlacement', 'axisLabel', 'scaleDistribution', 'stacking', 'thresholdsStyle'].map((path) => option(path, true)),
]);

function framesOf(panel) {
  const frames = panel.series.map(({ name, times, values }) => toDataFrame({
    fields: [
      { name: 'Time', type: FieldType.time, values: times },
      { name: 'Value', type: FieldType.number, values, config: { displayNameFromDS: name } },
    ],
  }));
  return applyFieldOverrides({
    data: frames, fieldConfig: panel.fieldConfig, fieldConfigRegistry: options, replaceVariables: (text) => text, theme,
    timeZone: 'utc',
  });
}

function Stats({ panel, width, height }) {
  const fields = framesOf(panel).map((frame) => frame.fields[1]);
  const each = (width - GAP * (fields.length - 1)) / fields.length;
  return (
    <div style={{ display: 'flex', gap: GAP }}>
      {fields.map((field, place) => {
        const shown = (field.display ?? getDisplayProcessor({ field, theme }))(reduceField({ field, reducers: ['lastNotNull'] }).lastNotNull);
        const { colorMode, graphMode, textMode, justifyMode } = panel.options;
        return (
          <BigValue key={place} value={{ ...shown, title: field.state?.displayName ?? field.config.displayNameFromDS }} theme={theme}
            width={each} height={height} colorMode={colorMode} graphMode={graphMode} textMode={textMode} justifyMode={justifyMode} />
        );
      })}
    </div>
  );
}

function Graph({ panel, width, height }) {
  const frames = framesOf(panel);
  if (!frames.length) {
    return <div style={{ color: theme.colors.text.secondary, textAlign: 'center', paddingTop: height / 2 - 10 }}>No data</div>;
  }
  return <TimeSeries frames={frames} width={width} height={height} timeRange={range} timeZone="utc" legend={panel.options.legend} structureRev={1} />;
}

function Panel({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const column = (width - 2 * GAP) / 24;
  const place = { position: 'absolute', left: GAP + x * column, top: y * CELL };
  if (panel.type === 'row') {
    return <div style={{ ...place, fontWeight: 500, fontSize: 17, paddingTop: 6, color: theme.colors.text.primary }}>{panel.title}</div>;
  }
  const Body = panel.type === 'stat' ? Stats : Graph;
  return (
    <div style={place}>
      <PanelChrome title={panel.title} width={w * column - GAP} height={h * CELL - GAP}>
        {(width, height) => <Body panel={panel} width={width} height={height} />}
      </PanelChrome>
    </div>
  );
}

function Dashboard() {
  const bottom = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div id="dashboard" style={{ width, background: theme.colors.background.canvas, padding: `${GAP}px 0` }}>
        <div style={{ padding: `4px ${GAP}px 8px`, display: 'flex', justifyContent: 'space-between', alignItems: 'baseline' }}>
          <span style={{ fontSize: 22, fontWeight: 500, color: theme.colors.text.primary }}>{dashboard.title}</span>
          <span style={{ color: theme.colors.text.secondary }}>{window.shown.note}</span>
        </div>
        <div style={{ position: 'relative', height: bottom * CELL }}>
          {dashboard.panels.map((panel) => <Panel key={panel.id} panel={panel} />)}
        </div>
      </div>
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById('root')).render(<Dashboard />);
